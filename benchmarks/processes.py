"""The processes of a benchmark: each is started here and ended here by its own id, also after Ctrl-C."""

import http.client
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit, urlunsplit

import psutil

from app.db import embedded
from benchmarks.report import Failed, Skipped

ROOT: Final = Path(__file__).resolve().parents[1]
SHARED: Final = ROOT.parent / "shared"
SIMULATOR: Final = SHARED / "sim" / "openai_sim.py"

_KEY: Final = re.compile(r"ibid_[0-9a-f]{12}_[A-Za-z0-9]{43}")
_START_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 30.0
# Nothing else of the environment reaches a server: a developer's key or database must not be measured.
_PASSED_ON: Final = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH")

# Counted as in production, so that counting is measured, but never refused.
_NO_LIMIT_REACHED: Final = {
    f"RATE_LIMIT_{activity}": "1000000/second" for activity in ("LOGIN", "CHAT", "SEARCH", "INGEST")
}


@dataclass(frozen=True, slots=True)
class Server:
    """A process that answers HTTP on the loopback."""

    pid: int
    port: int
    log: Path
    started_in_seconds: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """CPU of the process itself: what bounds it, as Python runs one thread at a time."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def all_cpu_seconds(self) -> float:
        """The same with its children, those that are gone included."""
        return _with_children(self.pid)

    def rss_mb(self) -> float:
        return float(psutil.Process(self.pid).memory_info().rss / 2**20)

    def first_key(self) -> str:
        """The API key that the service prints at its first start on an empty database."""
        found = _KEY.search(self.log.read_text())
        if found is None:
            raise Failed(f"the service printed no API key: {self.log}")
        return found[0]


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL of the benchmark's own, configured as the product's embedded one."""

    pid: int
    product_url: str

    def url(self, database: str) -> str:
        return urlunsplit(urlsplit(self.product_url)._replace(path=f"/{database}"))

    def cpu_seconds(self) -> float:
        """CPU of the server and of all its connections, those that are closed included."""
        return _with_children(self.pid)


def _with_children(pid: int) -> float:
    process = psutil.Process(pid)
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            total += times.user + times.system
    return float(total)


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """The embedded PostgreSQL in `folder`, held by this process."""
    server = embedded.start(folder)
    try:
        pid = int((folder / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        yield Postgres(pid, server.url)
    finally:
        server.stop()


@contextmanager
def service(settings: Mapping[str, str], folder: Path, name: str = "service") -> Iterator[Server]:
    """`ibid serve` with these settings alone, working in `folder`."""
    command = [str(Path(sys.executable).with_name("ibid")), "serve", "--host", "127.0.0.1"]
    with _server(command, {**_NO_LIMIT_REACHED, **settings}, folder, name) as server:
        try:
            yield server
        except Failed as error:  # the folder with the log will be gone
            raise Failed(f"{error}\nThe service's last lines:\n{_last_lines(server.log)}") from error


@contextmanager
def worker(settings: Mapping[str, str], folder: Path) -> Iterator[None]:
    """`ibid worker` with these settings alone, once it works."""
    log = folder / f"worker.{secrets.token_hex(4)}.log"
    environment = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("ibid")), "worker"],
            env={**environment, "PYTHONPATH": str(ROOT), "SECRET_KEY": secrets.token_hex(32), **settings},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while b"Ibid works on" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the worker did not start:\n{_last_lines(log)}")
            time.sleep(0.02)
        yield
    finally:
        _end(process)


@contextmanager
def simulator(folder: Path, *, dims: int = 1536, tokens: int = 100, echo: bool = False) -> Iterator[Server]:
    """The provider simulator; with `echo` half an answer is of the last message. Raises Skipped where it is absent."""
    if not SIMULATOR.exists():
        raise Skipped("the provider simulator ../shared/sim/openai_sim.py is absent")
    options = {"dims": dims, "tokens": tokens, "echo": int(echo)}
    command = [sys.executable, str(SIMULATOR), *(f"--{name}={value}" for name, value in options.items())]
    with _server(command, {}, folder, "simulator") as server:
        yield server


@contextmanager
def embedding_provider(folder: Path, *, dims: int = 1536) -> Iterator[Server]:
    """A provider of embeddings alone that hardly costs anything; `control` sets its `emb_latency`."""
    with python_server("benchmarks.embedding_provider", {"dims": dims}, folder) as server:
        yield server


def control(provider: Server, **values: float) -> dict[str, Any]:
    """Change the configuration of a simulated provider (`reset=1` zeroes its counters); returns its counters."""
    request = urllib.request.Request(f"{provider.url}/control", json.dumps(values).encode())
    with urllib.request.urlopen(request, timeout=10) as response:
        return cast(dict[str, Any], json.load(response)["counters"])


@contextmanager
def python_server(
    module: str, configuration: Mapping[str, Any], folder: Path, *, python: Path = Path(sys.executable)
) -> Iterator[Server]:
    """A server of this package: `python -m module CONFIGURATION`."""
    command = [str(python), "-m", module, json.dumps(configuration)]
    with _server(command, {}, folder, module) as server:
        yield server


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="ibid-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def _server(command: list[str], settings: Mapping[str, str], folder: Path, name: str) -> Iterator[Server]:
    port = _free_port()
    log = folder / f"{name}.{port}.log"
    environment = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    started_at = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            env={**environment, "PYTHONPATH": str(ROOT), "SECRET_KEY": secrets.token_hex(32), **settings},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the others in order
        )
    try:
        _wait_for_health(process, port, log)
        yield Server(process.pid, port, log, time.monotonic() - started_at)
    finally:
        _end(process)


def _wait_for_health(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            try:
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            finally:
                connection.close()
        time.sleep(0.02)
    raise Failed(f"{log.name} did not start:\n{_last_lines(log)}")


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
