"""`ibid doctor`: is everything there that the service needs, and if not, what to do. Changes nothing."""

import errno
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

import httpx

from app.core import crypto
from app.core.config import Settings
from app.core.errors import AppError, StartupError
from app.core.principal import SYSTEM
from app.db import migrations
from app.db.engine import Database
from app.db.models import RebuildState
from app.db.repositories import diagnostics as questions
from app.db.repositories.index_state import IndexStateRepository
from app.db.repositories.rebuilds import RebuildRepository
from app.rag.embedding import EmbeddingModel, is_local
from app.rag.errors import RagError
from app.rag.llms import ChatModel, Turn
from app.services import embeddings, lasting

connection_problem = questions.connection_problem

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


def url_problem(settings: Settings) -> questions.Problem | None:
    """What is wrong with the shape of DB_URL."""
    try:
        if settings.db_url is not None:
            parts = urlsplit(settings.db_url.get_secret_value())
            for host in parts.netloc.rpartition("@")[2].split(","):  # libpq takes several
                _ = parts._replace(netloc=host).port
    except ValueError:
        return questions.Problem(
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


async def embedding(model: EmbeddingModel) -> Check:
    """One text is embedded: the local model loads, or the provider answers."""
    name = "embedding model"
    try:
        await embeddings.query(model, "Ibid")
    except RagError as error:
        return fail(name, str(error), "Install Ibid anew with all that it depends on.")
    except AppError as error:
        return fail(name, error.message, "Check OPENAI_API_KEY, OPENAI_BASE_URL and EMBEDDING_MODEL.")
    where = "local" if model.provider == "local" else "the provider answers"
    return ok(name, f"{model.embedder.model_name}, {model.dimension} dimensions, {where}")


async def chat(model: ChatModel | None, settings: Settings) -> Check:
    """One short answer of the chat model, if there is one."""
    name = "chat model"
    if model is None:
        if settings.has_provider:
            return ok(name, "extractive, as CHAT_MODEL says: answers are quotes")
        return ok(name, "extractive: answers are quotes, since there is no OPENAI_API_KEY")
    try:
        await model.complete([Turn("user", "Say: ok")], temperature=settings.chat_temperature, max_tokens=16)
    except AppError as error:
        return fail(name, error.message, "Check OPENAI_API_KEY, OPENAI_BASE_URL and CHAT_MODEL.")
    return ok(name, f"{model.config.model}, the provider answers")


async def database(db: Database, settings: Settings, model: EmbeddingModel | None) -> AsyncIterator[Check]:
    """Server, schema, roles, index and contents; what needs the schema is left out while there is none."""
    server = await questions.server(db)
    yield ok("database", f"PostgreSQL {server.version}" + ("" if settings.db_url else ", embedded"))
    if server.vector:
        yield ok("pgvector", server.vector)
    schema = await _schema(db, settings)
    yield schema
    if schema.status is not Status.OK:
        return
    for role in questions.ROLES:
        if not await questions.usable_role(db, role):
            yield fail(
                f"role {role}",
                "the login role may not use it",
                f"Let the database's administrator run: GRANT {role} TO the user in DB_URL;",
            )
            return
    if await questions.is_walled(db):
        yield ok("roles", " and ".join(questions.ROLES) + " are usable, organizations are kept apart")
    else:
        yield fail("roles", "row-level security does not keep organizations apart", "Run: ibid migrate")
    async for check in _index(db, settings, model):
        yield check


async def _schema(db: Database, settings: Settings) -> Check:
    name = "migrations"
    revision, head = await migrations.current(db), migrations.head()
    if revision == head:
        return ok(name, f"at {head}, the newest")
    if revision is None and settings.migrate_on_start:
        return warn(
            name, "the database is empty", "Start with `ibid serve` or `ibid ingest FOLDER`: both set it up."
        )
    if revision is not None and revision > head:
        return fail(
            name, f"at {revision}, which this version does not know", "Update Ibid: the database is newer."
        )
    return fail(name, f"at {revision or 'none'}, this version needs {head}", "Run: ibid migrate")


async def _index(db: Database, settings: Settings, model: EmbeddingModel | None) -> AsyncIterator[Check]:
    async with db.unit_of_work(SYSTEM) as session:
        build = await IndexStateRepository(session).served()
        rebuild = await RebuildRepository(session).under_way()
    counts = await questions.counts(db)
    if build is None or not counts.chunks:
        yield ok("index", "empty")
    elif model is None:
        yield warn("index", f"of {build.fingerprint}; not compared, since the configured model does not work")
    elif build.fingerprint == model.fingerprint:
        yield ok("index", f"of the configured embedding model ({build.fingerprint})")
    elif is_local(build.model) or settings.has_provider:
        yield warn(
            "index",
            f"of {build.fingerprint}, and searched with that; {model.fingerprint} is configured",
            f"Change the index (POST /admin/index/rebuild), or set EMBEDDING_MODEL to {build.model}.",
        )
    else:
        yield fail(
            "index",
            f"built with {build.fingerprint}, but {model.fingerprint} is configured",
            "Set EMBEDDING_MODEL and the provider's key back, or rebuild the index (POST /admin/index/rebuild).",
        )
    if rebuild is not None:
        told = f"to {rebuild.embedding_model}, {rebuild.state}"
        reason = "" if rebuild.error is None else f": {rebuild.error['message']}"
        stopped = rebuild.state == RebuildState.FAILED
        yield warn(
            "rebuild",
            told + reason,
            "Send POST /admin/index/rebuild again, or DELETE it."
            if stopped
            else "Nothing: wait for its end.",
        )
    if build is not None:
        yield await _vector_index(db, settings, build.name, build.dimension)
    yield ok(
        "contents",
        f"organizations: {counts.organizations:,}, documents: {counts.documents:,}, chunks: {counts.chunks:,}",
    )


async def _vector_index(db: Database, settings: Settings, indexed: str, dimension: int) -> Check:
    name = "vector index"
    from_rows = settings.exact_search_max_values // dimension
    needed, there = await questions.graphs(db, indexed, from_rows=from_rows)
    if not needed:
        return ok(
            name, f"not needed up to {from_rows:,} chunks in an organization: they are searched exactly"
        )
    if there == needed:
        return ok(name, f"present (HNSW) for each organization of more than {from_rows:,} chunks: {there:,}")
    return warn(
        name,
        f"not there for {needed - there:,} of {needed:,} organizations of more than {from_rows:,} chunks",
        "Run `ibid serve`: it builds the index. Until then they are searched exactly.",
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.1f} GB"
