"""The command line: in a process of its own as people run it, or in this one where a process would add nothing."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.fixtures.postgres import MakeDatabase
from tests.fixtures.service import TEST_SECRET_KEY

Environment = dict[str, str]


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int | None
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(**settings: str) -> Environment:
    """These settings and none of the developer's."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {"PORT": "18700", "SECRET_KEY": TEST_SECRET_KEY} | settings


async def start_ibid(*arguments: str, env: Environment, cwd: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app.cli",
        *arguments,
        env=env | {"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process) -> Ran:
    out, err = await process.communicate()
    return Ran(process.returncode, out.decode(), err.decode())


async def run_ibid(*arguments: str, env: Environment, cwd: Path) -> Ran:
    return await finish(await start_ibid(*arguments, env=env, cwd=cwd))


RunHere = Callable[..., Ran]


@pytest.fixture
def run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[RunHere]:
    """Runs a command in this process, with the settings given as the whole environment."""
    import logging

    from app import cli

    root = logging.getLogger()
    handlers, level, configured = root.handlers[:], root.level, structlog.get_config()

    def run(*arguments: str, **settings: str) -> Ran:
        monkeypatch.chdir(tmp_path)
        for name in list(os.environ):
            monkeypatch.delenv(name)
        for name, value in environment(**settings).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["ibid", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
            sys.exit(0)
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    yield run
    root.handlers[:], root.level = handlers, level
    structlog.configure(**configured)


@dataclass(frozen=True)
class Library:
    """A database with a few documents, how they came there, and the folder that they came from."""

    env: Environment
    folder: Path
    first: Ran


@pytest.fixture(scope="session")
async def library(
    make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Library]:
    folder = tmp_path_factory.mktemp("library")
    (folder / "policies").mkdir()
    (folder / "policies" / "leave.md").write_text(
        "# Leave policy\n\nEvery employee has 24 days of paid leave a year.\n", encoding="utf-8"
    )
    (folder / "prices.txt").write_bytes("Le café coûte 3 € à midi.".encode("cp1252"))
    (folder / "warranty.txt").write_text("The warranty of the gateway is five years.", encoding="utf-16")
    (folder / "scan.pdf").write_bytes(b"%PDF-1.7")
    (folder / "menu.html").write_text("<title>The menu</title><p>Soup of the day is lentil.</p>")
    (folder / "program").write_bytes(b"\x7fELF" + bytes(100))
    (folder / "noise.txt").write_bytes(bytes(range(256)))
    env = environment(DB_URL=await make_database(), DATA_DIR=str(tmp_path_factory.mktemp("data")))
    yield Library(env, folder, await run_ibid("ingest", str(folder), "--json", env=env, cwd=folder))
