"""The whole service in processes that may be killed at any moment: PostgreSQL, the API, workers. All of them come back."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import psutil

from tests.fixtures.service import TEST_SECRET_KEY

ROOT: Final = Path(__file__).resolve().parents[2]
START_SECONDS: Final = 90.0

_START_POSTGRES: Final = """
import os, sys
from pathlib import Path
from app.db import embedded
print(embedded.start(Path(sys.argv[1])).url, flush=True)
os._exit(0)
"""


@dataclass
class Cluster:
    """Started in `folder` and ended by `close`; every process is known by its id."""

    folder: Path
    provider_url: str
    workers: int
    lease_seconds: float
    port: int = 0
    settings: dict[str, str] = field(default_factory=dict)
    """Those that differ from all other runs."""
    processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        self.db_url = self._start_postgres()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._spawn("api")
        self.wait_for_api()  # it migrates
        for number in range(self.workers):
            self._spawn(f"worker {number}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        """The API key that the first start printed."""
        log = (self.folder / "api.log").read_text(errors="replace")
        return next(word for word in log.split() if word.startswith("ibid_") and len(word) > 50)

    def kill(self, name: str) -> int:
        """End a process as the power does, and start it again; returns the id that it had."""
        self.kills[name.split(maxsplit=1)[0]] = self.kills.get(name.split(maxsplit=1)[0], 0) + 1
        if name == "postgres":
            pid = self._end_postgres()
            self._start_postgres()
            return pid
        process = self.processes[name]
        process.send_signal(signal.SIGKILL)
        process.wait()
        self._spawn(name)
        return process.pid

    def wait_for_api(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", trust_env=False, timeout=2).status_code == 200:
                    return
            if self.processes["api"].poll() is not None:  # it gave up: the database was away
                self._spawn("api")
            assert time.monotonic() < deadline, (self.folder / "api.log").read_text()[-3000:]
            time.sleep(0.1)

    def revive(self) -> None:
        """Start what has ended by itself, as whoever runs it in production does."""
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                self._spawn(name)

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            self._end_postgres()

    def _spawn(self, name: str) -> None:
        command = ["serve", "--host", "127.0.0.1", "--port", str(self.port)] if name == "api" else ["worker"]
        environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ} | {
            "PYTHONPATH": str(ROOT),
            "DB_URL": self.db_url,
            "DATA_DIR": str(self.folder / "data"),
            "SECRET_KEY": TEST_SECRET_KEY,
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": self.provider_url,
            "EMBEDDING_MODEL": "scripted-embedding",
            "WORKER_CONCURRENCY": "0" if name == "api" else "2",
            "JOB_LEASE_SECONDS": str(self.lease_seconds),
            "DB_CONNECT_TIMEOUT_SECONDS": "3",
            "LOG_FORMAT": "json",
            **self.settings,
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "app.cli", *command],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _start_postgres(self) -> str:
        """Its URL; started by a process that leaves it to itself."""
        command = [sys.executable, "-c", _START_POSTGRES, str(self.folder / "data")]
        started = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=START_SECONDS
        )
        return started.stdout.split()[-1]

    def _end_postgres(self) -> int:
        pid = int((self.folder / "data/postgres/postmaster.pid").read_text().splitlines()[0])
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=30)
        return pid
