"""Readiness: which part of the service works.

A part is down when requests of this process would fail for it: then it answers 503, and whoever balances the load sends them
elsewhere. What only makes documents wait, or will matter with the next deploy, is told and no more: taking a replica out of
rotation would not help it, and nobody could search what there is.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from app.core.errors import AppError, EmbeddingModelMismatch
from app.core.principal import SYSTEM
from app.db import migrations, queue
from app.rag.embedding import same_model
from app.services import lasting
from app.services.runtime import Runtime

_SILENT_SECONDS: Final = 45.0
"""Workers show a sign of life every ten."""

_LONG_SECONDS: Final = 600.0


class PartStatus(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class PartHealth:
    name: str
    status: PartStatus
    message: str | None = None


async def check(runtime: Runtime) -> list[PartHealth]:
    """Ask the database, and compare what the index was built with; never a provider."""
    parts = []
    try:
        revision = await migrations.current(runtime.database)
    except AppError as error:
        parts.append(PartHealth("database", PartStatus.DOWN, error.message))
    else:
        parts.append(PartHealth("database", PartStatus.OK))
        behind = migrations.is_behind(revision)
        message = f"The database is at revision {revision}; run `ibid migrate`." if behind else None
        parts.append(PartHealth("migrations", PartStatus.DOWN if behind else PartStatus.OK, message))
        if not behind:
            parts.append(await _queue(runtime))
    return [*parts, _index(runtime), _storage(runtime)]


async def _queue(runtime: Runtime) -> PartHealth:
    name = "queue"
    try:
        async with runtime.database.unit_of_work(SYSTEM) as session:
            backlog = await queue.backlog(session)
            workers = await queue.workers_alive(session, within=timedelta(seconds=_SILENT_SECONDS))
    except AppError as error:
        return PartHealth(name, PartStatus.DOWN, error.message)
    waiting = f"{backlog.ready:,} documents wait, the first for {backlog.oldest_ready_seconds:.0f} s"
    if not workers:
        told = f"No worker is running: {waiting}. Start `ibid worker`, or set WORKER_CONCURRENCY."
        return PartHealth(name, PartStatus.DEGRADED if backlog.ready else PartStatus.OK, told)
    if backlog.oldest_ready_seconds > _LONG_SECONDS:
        told = f"{waiting}; {workers} workers are running. More of them, or a higher WORKER_CONCURRENCY, would help."
        return PartHealth(name, PartStatus.DEGRADED, told)
    return PartHealth(name, PartStatus.OK)


def _index(runtime: Runtime) -> PartHealth:
    name = "index"
    try:
        runtime.require_matching_index()
    except EmbeddingModelMismatch as error:
        return PartHealth(name, PartStatus.DOWN, error.message)
    used, configured = runtime.served.build.model, runtime.settings.embedding_model
    if configured is not None and not same_model(configured, used):
        told = (
            f"EMBEDDING_MODEL is {configured}, but the index is of {used}, and is searched with that. To change it:"
            " POST /admin/index/rebuild."
        )
        return PartHealth(name, PartStatus.DEGRADED, told)
    return PartHealth(name, PartStatus.OK)


def _storage(runtime: Runtime) -> PartHealth:
    problem = lasting.storage_problem(runtime.settings)
    if problem is None:
        return PartHealth("storage", PartStatus.OK)
    return PartHealth("storage", PartStatus.DEGRADED, " ".join(problem))
