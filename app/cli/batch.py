"""Many documents side by side: each in its own transaction, a bounded number at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from app.cli.tally import Outcome, Result
from app.cli.terminal import Service
from app.core.errors import (
    AppError,
    Category,
    CollectionNotFound,
    DocumentNotFound,
    EmbeddingModelMismatch,
    Invalid,
)
from app.services import ingestion, progress, uploads
from app.services.folders import Entry, Readable, Unreadable, Uploadable, WebPage
from app.services.uploads import Wish

log = structlog.get_logger(__name__)

_PASSING: Final = (Category.UNAVAILABLE, Category.GATEWAY_TIMEOUT)
SURROUNDINGS: Final = (*_PASSING, Category.BAD_GATEWAY, Category.INSUFFICIENT_STORAGE)
_PATIENCE: Final = 2
_LONGEST_PAUSE_SECONDS: Final = 30.0
_FAILURES_IN_A_ROW: Final = 5

Show = Callable[[str, float | None], None]
"""A document's source and how far it is from 0 to 1; None when that need not be shown any more."""

_HOPELESS: Final = (CollectionNotFound, EmbeddingModelMismatch)


class IngestionStopped(Exception):
    """So many documents in a row failed through no fault of theirs that the next one would fail too."""

    def __init__(self, reason: AppError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class ProcessingFailed(Invalid):
    """The document could not be processed."""

    @classmethod
    def of(cls, error: Mapping[str, Any]) -> "ProcessingFailed":
        """The failure that a document shows."""
        failed = cls(error["message"])
        failed.code = error["code"]  # type: ignore[misc]  # of this one, not of its class
        return failed


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
    show: Show = lambda _, __: None,
) -> None:
    """Ingest the entries, `concurrency` at a time, and report what became of each once it is committed.

    `show` is told how far a document is that takes longer. What is uploaded needs a worker to run. Raises CollectionNotFound, EmbeddingModelMismatch, and IngestionStopped after five failures in a row that are not
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
            result = await _ingest(service, entry, destination, show)
            report(result)
            away = result.error is not None and result.error.category in SURROUNDINGS
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


async def _ingest(service: Service, entry: Entry, destination: Destination, show: Show) -> Result:
    if isinstance(entry, Unreadable):
        return Result(entry.source, Outcome.FAILED, entry.size_bytes, error=entry.error)
    try:
        if isinstance(entry, Readable):
            done = await _patiently(lambda: _ingest_text(service, entry, destination))
        else:
            done = await _patiently(lambda: _upload(service, entry, destination, show))
    except _HOPELESS:
        raise
    except AppError as error:
        return _failed(entry, error)
    except Exception as error:  # the top of a worker: one document may fail, the others go on
        log.error("ingestion_failed", source=entry.source, exc_info=error)
        return _failed(entry, IngestionFailed())
    return done


async def _ingest_text(service: Service, entry: Readable, destination: Destination) -> Result:
    done = await ingestion.ingest_text(service.runtime, service.principal, _item(entry, destination))
    return Result(
        source=entry.source,
        outcome=Outcome.ALREADY_THERE if done.duplicate else Outcome.INDEXED,
        size_bytes=entry.size_bytes,
        document_id=done.document.id,
        title=done.document.title,
        chunks=done.document.chunk_count,
        encoding=entry.encoding,
    )


async def _upload(
    service: Service, entry: Uploadable | WebPage, destination: Destination, show: Show
) -> Result:
    """Have the file or page processed, and wait for its end."""
    wish = Wish(
        source=entry.source,
        tags=destination.tags,
        collection_id=destination.collection_id,
        origin=entry.origin if isinstance(entry, Uploadable) else None,
        bulk=True,
    )
    runtime, principal = service.runtime, service.principal
    if isinstance(entry, WebPage):
        accepted = await uploads.accept_url(runtime, principal, entry.source, wish)
    else:
        accepted = await uploads.accept_path(runtime, principal, entry.path, wish)
    known = accepted.duplicate and accepted.document.status == "completed"
    document = accepted.document
    try:
        async for state in progress.follow(runtime, principal, document.id, seen=None):
            if isinstance(state, progress.Deleted):
                raise DocumentNotFound("It was deleted while it was being processed.")
            document = state
            show(entry.source, document.progress)
    finally:
        show(entry.source, None)
    if document.error is not None:
        raise ProcessingFailed.of(document.error)
    return Result(
        source=entry.source,
        outcome=Outcome.ALREADY_THERE if known else Outcome.INDEXED,
        size_bytes=entry.size_bytes,
        document_id=document.id,
        title=document.title,
        chunks=document.chunk_count,
    )


def _item(entry: Readable, destination: Destination) -> ingestion.TextSource:
    return ingestion.TextSource(
        text=entry.text,
        title=entry.title,
        source=entry.source,
        tags=destination.tags,
        collection_id=destination.collection_id,
        content_type=entry.content_type,
        origin=entry.origin,
    )


def _failed(entry: Entry, error: AppError) -> Result:
    text = entry if isinstance(entry, Readable) else None
    return Result(
        entry.source,
        Outcome.FAILED,
        entry.size_bytes,
        title=None if text is None else text.title,
        encoding=None if text is None else text.encoding,
        error=error,
    )


async def _patiently(attempt: Callable[[], Awaitable[Result]]) -> Result:
    """Ingest; what passes by itself (a busy provider, a database that restarts) is waited for, twice."""
    for number in range(_PATIENCE):
        try:
            return await attempt()
        except _HOPELESS:
            raise
        except AppError as error:
            if error.category not in _PASSING:
                raise
            pause_seconds = min(error.retry_after_seconds or 2.0**number, _LONGEST_PAUSE_SECONDS)
            log.warning("ingestion_postponed", reason=error.code, pause_seconds=pause_seconds)
            await asyncio.sleep(pause_seconds)
    return await attempt()
