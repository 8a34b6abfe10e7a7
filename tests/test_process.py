"""`make run` as a person uses it: the first start, the commands it prints, the signals, the second start."""

import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
READY_SECONDS = 60
STOP_SECONDS = 30

pytestmark = pytest.mark.timeout(240)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Run:
    """A started `make run` with its output."""

    def __init__(self, process: "subprocess.Popen[str]", output: Path, port: int) -> None:
        self.process = process
        self.output = output
        self.port = port

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait_until_ready(self) -> str:
        deadline = time.monotonic() + READY_SECONDS
        while f"Ibid is ready at http://localhost:{self.port}" not in self.text:
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.1)
        return self.text


@contextmanager
def make_run(data_dir: Path, output: Path) -> Iterator[Run]:
    port = free_port()
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("DB_URL", "DATABASE_URL", "OPENAI_API_KEY", "SECRET_KEY")
    }
    environment |= {"PORT": str(port), "DATA_DIR": str(data_dir)}
    with output.open("w") as file:
        process = subprocess.Popen(
            ["make", "run"],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield Run(process, output, port)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def postgres_of(data_dir: Path) -> list[psutil.Process]:
    folder = str((data_dir / "postgres").resolve())
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "postgres" and folder in (process.info["cmdline"] or [])
    ]


def stop(run: Run, data_dir: Path, *, sign: signal.Signals, whole_group: bool) -> None:
    """Send the signal as `kill` does (to make) or as Ctrl-C does (to all of the terminal's group)."""
    children = [
        child
        for child in psutil.Process(run.process.pid).children(recursive=True)
        if child.name() != "postgres"
    ]
    if whole_group:
        os.killpg(run.process.pid, sign)
    else:
        run.process.send_signal(sign)
    run.process.wait(timeout=STOP_SECONDS)
    _, left = psutil.wait_procs(children, timeout=STOP_SECONDS)
    assert left == []
    deadline = time.monotonic() + STOP_SECONDS
    while postgres_of(data_dir):
        assert time.monotonic() < deadline, "the embedded PostgreSQL still runs"
        time.sleep(0.1)


def answer_of(command: str) -> httpx.Response:
    """Run a printed curl command with its own words."""
    words = shlex.split(command)
    assert words[0] == "curl"
    headers = dict(words[n + 1].split(": ", 1) for n, word in enumerate(words) if word == "-H")
    data = next((words[n + 1] for n, word in enumerate(words) if word == "-d"), None)
    return httpx.request(
        "POST" if data else "GET", words[1], headers=headers, content=data, timeout=30, trust_env=False
    )


def test_the_first_run_prints_commands_that_work_and_the_second_finds_all_as_it_was(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with make_run(data_dir, tmp_path / "first.txt") as run:
        text = run.wait_until_ready()
        health, ingest, chat = re.findall(r"^curl .*$", text, re.MULTILINE)
        assert answer_of(health).json() == {"status": "ok", "version": "0.1.0"}
        assert answer_of(ingest).json()["status"] == "indexed"
        answer = answer_of(chat).json()
        assert "24 days" in answer["answer"]
        assert answer["sources"][0]["cited"] is True
        key = re.search(r"ibid_[0-9a-f]{12}_[A-Za-z0-9]{43}", text)
        assert key is not None
        assert (data_dir / "secret_key").stat().st_mode & 0o777 == 0o600
        stop(run, data_dir, sign=signal.SIGTERM, whole_group=False)

    with make_run(data_dir, tmp_path / "second.txt") as run:
        text = run.wait_until_ready()
        assert "ibid_" not in text
        assert "password" not in text
        client = httpx.Client(
            base_url=f"http://localhost:{run.port}", headers={"X-API-Key": key[0]}, trust_env=False
        )
        assert [document["title"] for document in client.get("/documents").json()] == ["Leave policy"]
        stop(run, data_dir, sign=signal.SIGINT, whole_group=True)


def test_after_a_kill_the_next_start_recovers_and_still_stops_its_database(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with make_run(data_dir, tmp_path / "first.txt") as run:
        run.wait_until_ready()
        os.killpg(run.process.pid, signal.SIGKILL)
        run.process.wait()
    for process in postgres_of(data_dir):
        process.kill()

    with make_run(data_dir, tmp_path / "second.txt") as run:
        run.wait_until_ready()
        assert httpx.get(f"http://localhost:{run.port}/health/ready", trust_env=False).status_code == 200
        stop(run, data_dir, sign=signal.SIGTERM, whole_group=False)


def test_a_port_in_use_and_a_dead_database_are_sentences(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = os.environ | {
            "PORT": str(taken.getsockname()[1]),
            "HOST": "127.0.0.1",
            "SECRET_KEY": "a secret key of this test 0123456789",
        }
        for url, expected in (
            ("postgresql://nobody@127.0.0.1:1/none", "The database can't be reached"),
            ("mysql://x/y", "DB_URL must start with postgres:// or postgresql://"),
        ):
            result = subprocess.run(
                [str(ROOT / ".venv/bin/ibid"), "serve"],
                cwd=tmp_path,
                env=environment | {"DB_URL": url},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert result.returncode == 1
            assert expected in result.stderr
            assert "Traceback" not in result.stderr
