"""Many documents side by side: each in its own transaction, a bounded number at a time."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import structlog

from app.cli.tally import Outcome, Result
from app.cli.terminal import Service
from app.core.errors import AppError, Category, CollectionNotFound, EmbeddingModelMismatch
from app.services import ingestion
from app.services.folders import Entry, Readable, Unreadable

log = structlog.get_logger(__name__)

_PASSING: Final = (Category.UNAVAILABLE, Category.GATEWAY_TIMEOUT)
_SURROUNDINGS: Final = (*_PASSING, Category.BAD_GATEWAY, Category.INSUFFICIENT_STORAGE)
_PATIENCE: Final = 2
_LONGEST_PAUSE_SECONDS: Final = 30.0
_FAILURES_IN_A_ROW: Final = 5

_HOPELESS: Final = (CollectionNotFound, EmbeddingModelMismatch)


class IngestionStopped(Exception):
    """So many documents in a row failed through no fault of theirs that the next one would fail too."""

    def __init__(self, reason: AppError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class IngestionFailed(AppError):
    """Something went wrong that should not have; the log lines above say what. Please report it."""

    category = Category.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the documents go and what is said of all of them; `collection_id` None is the default collection."""

    collection_id: str | None = None
    tags: tuple[str, ...] = ()


async def ingest(
    service: Service,
    entries: Iterator[Entry],
    report: Callable[[Result], None],
    *,
    destination: Destination,
    concurrency: int,
) -> None:
    """Ingest the entries, `concurrency` at a time, and report what became of each once it is committed.

    Raises CollectionNotFound, EmbeddingModelMismatch, and IngestionStopped after five failures in a row that are not
    the documents' own: the database or the provider is away.
    """
    reading = asyncio.Lock()
    failures_in_a_row = 0

    async def work() -> None:
        nonlocal failures_in_a_row
        while True:
            async with reading:
                entry = await asyncio.to_thread(next, entries, None)
            if entry is None:
                return
            result = await _ingest(service, entry, destination)
            report(result)
            away = result.error is not None and result.error.category in _SURROUNDINGS
            failures_in_a_row = failures_in_a_row + 1 if away else 0
            if result.error is not None and failures_in_a_row >= _FAILURES_IN_A_ROW:
                raise IngestionStopped(result.error)

    workers = [asyncio.create_task(work()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _ingest(service: Service, entry: Entry, destination: Destination) -> Result:
    if isinstance(entry, Unreadable):
        return Result(entry.source, Outcome.FAILED, entry.size_bytes, error=entry.error)
    try:
        done = await _patiently(service, _item(entry, destination))
    except _HOPELESS:
        raise
    except AppError as error:
        return _failed(entry, error)
    except Exception as error:  # the top of a worker: one document may fail, the others go on
        log.error("ingestion_failed", source=entry.source, exc_info=error)
        return _failed(entry, IngestionFailed())
    return Result(
        source=entry.source,
        outcome=Outcome.ALREADY_THERE if done.duplicate else Outcome.INDEXED,
        size_bytes=entry.size_bytes,
        document_id=done.document.id,
        title=done.document.title,
        chunks=done.document.chunk_count,
        encoding=entry.encoding,
    )


def _item(entry: Readable, destination: Destination) -> ingestion.TextSource:
    return ingestion.TextSource(
        text=entry.text,
        title=entry.title,
        source=entry.source,
        tags=destination.tags,
        collection_id=destination.collection_id,
        content_type=entry.content_type,
    )


def _failed(entry: Readable, error: AppError) -> Result:
    return Result(
        entry.source,
        Outcome.FAILED,
        entry.size_bytes,
        title=entry.title,
        encoding=entry.encoding,
        error=error,
    )


async def _patiently(service: Service, item: ingestion.TextSource) -> ingestion.Ingested:
    """Ingest; what passes by itself (a busy provider, a database that restarts) is waited for, twice."""
    for attempt in range(_PATIENCE):
        try:
            return await ingestion.ingest_text(service.runtime, service.principal, item)
        except _HOPELESS:
            raise
        except AppError as error:
            if error.category not in _PASSING:
                raise
            pause_seconds = min(error.retry_after_seconds or 2.0**attempt, _LONGEST_PAUSE_SECONDS)
            log.warning("ingestion_postponed", reason=error.code, pause_seconds=pause_seconds)
            await asyncio.sleep(pause_seconds)
    return await ingestion.ingest_text(service.runtime, service.principal, item)
