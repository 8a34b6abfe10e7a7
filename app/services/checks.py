"""One thing that was looked at, and those that can be looked at without a database: this machine and its settings."""

import errno
import os
import shutil
import socket
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

import httpx

from app.core import crypto
from app.core.config import Settings
from app.core.errors import StartupError
from app.db.repositories.diagnostics import Problem
from app.services import lasting

_MINIMUM_PYTHON: Final = (3, 11)
_LOW_DISK_BYTES: Final = 1_000_000_000
_FULL_DISK_BYTES: Final = 100_000_000
_PROBE_TIMEOUT_SECONDS: Final = 2.0


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `next_step` is what to do about it, None when there is nothing to do."""

    name: str
    status: Status
    message: str
    next_step: str | None = None


def ok(name: str, message: str) -> Check:
    return Check(name, Status.OK, message)


def warn(name: str, message: str, next_step: str | None = None) -> Check:
    return Check(name, Status.WARN, message, next_step)


def fail(name: str, message: str, next_step: str) -> Check:
    return Check(name, Status.FAIL, message, next_step)


def python_version() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _MINIMUM_PYTHON:
        return fail("Python", version, "Install Python 3.11 or newer and make the environment anew.")
    return ok("Python", version)


def url_problem(settings: Settings) -> Problem | None:
    """What is wrong with the shape of DB_URL."""
    try:
        if settings.db_url is not None:
            parts = urlsplit(settings.db_url.get_secret_value())
            for host in parts.netloc.rpartition("@")[2].split(","):  # libpq takes several
                _ = parts._replace(netloc=host).port
    except ValueError:
        return Problem(
            "DB_URL can't be understood.",
            "Give it the form postgresql://user:password@host:5432/database, special characters of the password as %XX.",
        )
    return None


def secret_key(settings: Settings) -> Check:
    """The key that tokens are signed and secrets are encrypted with; makes none."""
    if settings.secret_key is None and settings.db_url is None:
        return ok("secret key", "kept beside the embedded database")
    try:
        crypto.load(settings)
    except StartupError as error:
        reason, _, advice = str(error).partition(". ")
        return fail("secret key", f"{reason}.", advice)
    return ok("secret key", "set")


def data_directory(settings: Settings) -> Check:
    """The folder of the embedded PostgreSQL: can it be written, is there room."""
    name = "data directory"
    folder = settings.data_dir.resolve()
    if settings.db_url is not None:
        return ok(name, "not used, since DB_URL is set")
    existing = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        return fail(
            name, f"{existing} can't be written", "Set DATA_DIR to a folder that this user may write to."
        )
    free_bytes = shutil.disk_usage(existing).free
    message = f"{folder}, {_size(free_bytes)} free"
    if free_bytes < _FULL_DISK_BYTES:
        return fail(name, message, "Free space on this disk, or set DATA_DIR to a folder on another.")
    if free_bytes < _LOW_DISK_BYTES:
        return warn(name, message, "Free space on this disk soon: PostgreSQL stops when it is full.")
    return ok(name, message)


def storage(settings: Settings) -> Check:
    """Whether original files outlive the next deploy."""
    name = "original files"
    if problem := lasting.storage_problem(settings):
        return warn(name, problem.reason, problem.next_step)
    if lasting.keeps_files_in_database(settings):
        return ok(name, "in the database")
    return ok(name, f"in {settings.storage_url or settings.data_dir}")


async def port(settings: Settings) -> Check:
    """Whether `ibid serve` could listen, or does so already."""
    name = f"port {settings.port}"
    try:
        _bind(settings.host, settings.port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            version = await _ibid_at(settings)
            if version is not None:
                return ok(name, f"Ibid {version} is serving on it")
            return fail(name, "in use by another program", "Set PORT to a free port, or stop that program.")
        return fail(
            name,
            f"can't be used ({error.strerror})",
            "Set PORT to one above 1023 and HOST to an address of this machine.",
        )
    return ok(name, "free")


def _bind(host: str, port: int) -> None:
    """Listen for a moment where the server would. Raises OSError."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind(address)
        except OSError as error:
            # Where IPv6 is switched off, its addresses are listed all the same.
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) or len(found) == 1:
                raise


async def _ibid_at(settings: Settings) -> str | None:
    """The version of the Ibid that answers on the port, or None when it is something else."""
    host = settings.host if settings.host not in ("", "0.0.0.0", "::") else "localhost"  # noqa: S104 compared, not bound
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/health"
    try:
        async with httpx.AsyncClient(timeout=_PROBE_TIMEOUT_SECONDS, trust_env=False) as client:
            answer = (await client.get(url)).json()
        return str(answer["version"]) if answer["status"] == "ok" else None
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return None


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.1f} GB"
