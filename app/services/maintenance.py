"""What has to be done now and then while the service runs, by whichever process comes first."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import structlog

from app.core import waiting
from app.core.errors import AppError
from app.core.principal import SYSTEM
from app.db import upkeep
from app.db.repositories.conversations import interrupt_abandoned_answers
from app.db.repositories.usage import release_expired
from app.services import indexing, logins, sessions, shares, tickets, titles, usage
from app.services.runtime import Runtime

log = structlog.get_logger(__name__)

_INTERVAL_SECONDS: Final = 60.0
_ROUNDS_AN_HOUR: Final = 60
_CHUNKS_AT_ONCE: Final = 20
"""Analysed on the event loop in some ten milliseconds."""


@asynccontextmanager
async def running(runtime: Runtime) -> AsyncIterator[None]:
    """Maintenance in the background for as long as the block lasts."""
    task = asyncio.create_task(_forever(runtime), name="maintenance")
    try:
        yield
    finally:
        await waiting.cancelled(task)


async def run_once(runtime: Runtime) -> None:
    """One round: abandoned answers, expired logins, what dead processes held of budgets, the vector index once it is worth having, the terms, their index and their counts."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        interrupted = await interrupt_abandoned_answers(
            session, older_than=timedelta(seconds=runtime.settings.longest_turn_seconds)
        )
        await logins.purge(session)
        released = await release_expired(session)
        await tickets.purge(session)
    if interrupted:
        log.info("answers_interrupted", count=interrupted)
    if released:
        log.info("budget_reservations_released", count=released)
    await upkeep.ensure_vector_index(
        runtime.database,
        embedding_model=runtime.index_build,
        dimension=runtime.indexed_dimension,
        from_rows=runtime.settings.exact_search_max_values // runtime.indexed_dimension,
        memory_mb=runtime.settings.index_build_memory_mb,
    )
    await add_missing_terms(runtime)
    await upkeep.empty_pending_terms(runtime.database)
    await titles.catch_up(runtime)
    await upkeep.count_terms(runtime.database)


async def add_missing_terms(runtime: Runtime) -> None:
    """The terms of chunks that an earlier version stored, in small transactions that make room for others."""
    analysis, added = indexing.analysis(runtime.settings), _CHUNKS_AT_ONCE
    while added == _CHUNKS_AT_ONCE:
        added = await upkeep.add_missing_terms(runtime.database, analysis, limit=_CHUNKS_AT_ONCE)


async def run_hourly(runtime: Runtime) -> None:
    """What reads whole tables: links that have expired, sessions and usage that are kept no longer."""
    await shares.purge(runtime)
    if retired := await sessions.retire(runtime):
        log.info("sessions_retired", count=retired)
    if purged := await usage.purge(runtime):
        log.info("usage_purged", count=purged)


async def _forever(runtime: Runtime) -> None:
    for number in itertools.count():
        try:
            await run_once(runtime)
            if number % _ROUNDS_AN_HOUR == 0:
                await run_hourly(runtime)
        except AppError as error:  # the database is away: it will be tried again
            log.warning("maintenance_postponed", reason=error.code)
        except Exception as error:  # the top of a background loop: a round may fail, the loop may not end
            log.error("maintenance_failed", exc_info=error)
        await asyncio.sleep(_INTERVAL_SECONDS)
