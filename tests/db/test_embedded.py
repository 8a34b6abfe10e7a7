"""The embedded PostgreSQL where the last process died: the number of its server may be somebody else's by now."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from app.db import embedded

FOREIGN = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def foreign_process() -> "Iterator[subprocess.Popen[bytes]]":
    process = subprocess.Popen(FOREIGN)
    yield process
    process.kill()
    process.wait()


def pid_in(path: Path) -> int:
    return int(path.read_text().splitlines()[0])


async def test_a_number_that_is_another_process_now_does_not_keep_it_from_starting(
    tmp_path: Path, foreign_process: "subprocess.Popen[bytes]"
) -> None:
    pid_file = tmp_path / "postgres" / "postmaster.pid"
    first = await asyncio.to_thread(embedded.start, tmp_path)
    connection = await asyncpg.connect(first.url)
    await connection.execute("CREATE TABLE kept (number int)")
    await connection.close()
    left = pid_file.read_text()
    server = psutil.Process(pid_in(pid_file))
    children = server.children(recursive=True)
    server.kill()
    psutil.wait_procs([server, *children], timeout=60)
    with pid_file.open("r+") as file:
        file.write(left.replace(str(server.pid), str(foreign_process.pid), 1))
        file.truncate()

    second = await asyncio.to_thread(embedded.start, tmp_path)
    connection = await asyncpg.connect(second.url)
    assert await connection.fetchval("SELECT count(*) FROM kept") == 0
    await connection.close()
    assert pid_in(pid_file) not in (server.pid, foreign_process.pid)
    second.stop()

    assert not pid_file.exists()
    assert foreign_process.poll() is None


def test_a_server_that_runs_is_joined(tmp_path: Path) -> None:
    first = embedded.start(tmp_path)
    running = pid_in(tmp_path / "postgres" / "postmaster.pid")
    second = embedded.start(tmp_path)

    assert pid_in(tmp_path / "postgres" / "postmaster.pid") == running
    second.stop()
    first.stop()


@pytest.mark.parametrize("content", ["", "nonsense\n", "-5\n", f"{2**40}\n"])
def test_a_file_that_says_nothing_is_left_to_postgresql(tmp_path: Path, content: str) -> None:
    path = tmp_path / "postmaster.pid"
    path.write_text(content)
    embedded._disown_recycled_pid(tmp_path)

    assert path.read_text() == content


def test_the_number_that_stands_for_nobody_is_nobodys() -> None:
    with pytest.raises((ProcessLookupError, OSError)):
        os.kill(embedded._NO_PID, 0)
