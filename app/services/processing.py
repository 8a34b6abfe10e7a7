"""What a worker does with a claimed document: read → chunk → embed → one transaction that makes it what is served.

Until that transaction nothing of the work can be seen but its progress. It holds the document's row, checks that the
document is there and of the claimed generation, and ends the claim: dying anywhere leaves the document as it was, and doing
it twice has one effect.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from app.core.errors import AppError, Category, OriginalsUnavailable, Superseded
from app.core.principal import Principal, worker_of
from app.db import queue
from app.db.models import Document, DocumentStatus, Stage
from app.db.queue import Claim
from app.db.repositories import index_state
from app.db.repositories.collections import CollectionRepository
from app.db.repositories.documents import DocumentRepository
from app.db.repositories.outbox import OutboxRepository
from app.db.repositories.versions import VersionRepository
from app.rag.chunking import Page
from app.rag.parsing.model import ParseFailed
from app.services import chunks, reading
from app.services.reading import Reading
from app.services.runtime import Runtime, on_served_index
from app.services.web_requests import FetchFailed

Report = Callable[[Stage, float], None]

_PASSING: Final = (Category.UNAVAILABLE, Category.GATEWAY_TIMEOUT, Category.INSUFFICIENT_STORAGE)
_FIRST_PAUSE_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a document could not be processed, as its owner reads it."""

    code: str
    message: str
    retryable: bool
    pause_seconds: float | None = None
    """How long a provider asked to be left alone."""
    of_the_file: bool = False
    """Whether the fault is the file's, so that it is not started more often than one that kills its worker."""

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "retryable": self.retryable}


principal_of = worker_of


class BecameTheSame(Exception):
    """The new version of a document has the content of another one of its collection."""

    def __init__(self, document_id: str) -> None:
        self.document_id = document_id
        super().__init__(document_id)


async def run(runtime: Runtime, claim: Claim, report: Report) -> int:
    """Process the claimed document; returns how many chunks it has now.

    Raises Superseded when the document was deleted, changed or taken by another worker meanwhile, ParseFailed for a file
    that can't be read, FetchFailed for a page that can't be had, BecameTheSame, and AppError for what is away.
    """
    runtime.require_matching_index()
    principal = principal_of(claim.organization_id)
    async with runtime.database.unit_of_work(principal) as session:
        document = await VersionRepository(session, principal).lock(claim)
        if document is None or not await queue.holds(session, claim):
            raise Superseded
        collection = await CollectionRepository(session, principal).find(document.collection_id)
        if collection is None:
            raise Superseded
    report(Stage.PARSING, 0.0)
    async with reading.read(
        runtime,
        principal,
        document,
        from_pages=claim.from_pages,
        done=lambda share: report(Stage.PARSING, 0.2 * share),
    ) as read:
        title = _title(document, read)

        async def index(pinned: Runtime) -> int:
            pinned.require_matching_index()
            report(Stage.CHUNKING, 0.2)
            plan = chunks.plan_of(pinned, collection.chunking)
            pages = [Page(page.number, page.text) for page in read.pages]
            cut = await chunks.cut(pinned, pages, plan, headings=read.headings, title=title)
            if not cut.chunks:
                raise reading.nothing_to_read()
            report(Stage.EMBEDDING, 0.3)
            vectors = await chunks.embed(
                pinned, principal, cut.chunks, done=lambda share: report(Stage.EMBEDDING, 0.3 + 0.6 * share)
            )
            report(Stage.INDEXING, 0.9)
            await _complete(pinned, principal, claim, read, cut, vectors, title)
            return len(cut.chunks)

        return await on_served_index(runtime, index)


async def _complete(
    runtime: Runtime,
    principal: Principal,
    claim: Claim,
    read: Reading,
    cut: chunks.Cut,
    vectors: chunks.Vectors,
    title: str,
) -> None:
    async with runtime.live.room, runtime.database.unit_of_work(principal) as session:
        await index_state.hold(session, runtime.index_build)
        versions, documents = VersionRepository(session, principal), DocumentRepository(session, principal)
        document = await versions.lock(claim)
        if document is None or not await queue.finish(session, claim):
            raise Superseded
        if read.fetched is not None and not await OutboxRepository(session, principal).keep(
            read.fetched.storage_key
        ):
            raise OriginalsUnavailable("Storing the file took too long; it is fetched again.")
        await versions.clear(document.id, pages=not read.kept)
        if not read.kept:
            await versions.add_pages(document.id, read.pages)
        values = _values(runtime, document, read, cut)
        if (sha256 := values.get("sha256", document.sha256)) != document.sha256:
            same = await versions.find_same(collection_id=document.collection_id, sha256=sha256)
            if same is not None:
                raise BecameTheSame(same.id)
        # Somebody may have changed the title while the words of the chunks were taken from the one before.
        values["terms_stale_from"] = None if values.get("title", document.title) == title else 0
        await versions.settle(document.id, values)
        await chunks.store(
            cut,
            vectors,
            lambda batch: documents.add_chunks(
                document.id,
                batch,
                embedding_model=runtime.index_build,
            ),
        )


def _values(runtime: Runtime, document: Document, read: Reading, cut: chunks.Cut) -> dict[str, Any]:
    """The document's columns once this version is the one that is served."""
    values: dict[str, Any] = {
        "status": DocumentStatus.COMPLETED,
        "progress": 1.0,
        "error": None,
        "chunk_count": len(cut.chunks),
        "built_for": 0,
        "languages": cut.languages,
        "page_count": len(read.pages),
        "pending": None,
    }
    if read.kept:
        return values
    values |= {"extraction": read.extraction, "content_type": read.content_type}
    values["title"] = _title(document, read)
    if document.pending is not None:
        file: Mapping[str, Any] = document.pending
        values |= {name: file[name] for name in ("sha256", "size_bytes", "filename", "storage_key")}
        values |= {"storage_sha256": file["sha256"], "url": None}
    if read.fetched is not None:
        values |= {
            "storage_key": read.fetched.storage_key,
            "storage_sha256": read.fetched.sha256,
            "size_bytes": read.fetched.size_bytes,
            "filename": read.fetched.filename,
        }
    if not runtime.settings.keep_original_files:
        values |= {"storage_key": None, "storage_sha256": None}
    return values


def _title(document: Document, read: Reading) -> str:
    """The title that somebody gave the document, or else the one that the file has itself."""
    is_named = document.title not in {document.filename, document.url, "Untitled"}
    return document.title if is_named or read.kept or not read.title else read.title


def failure_of(error: ParseFailed | FetchFailed | BecameTheSame | AppError) -> Failure:
    """The error as the document shows it."""
    if isinstance(error, BecameTheSame):
        return Failure(
            "same_content_elsewhere",
            f"The new version has the same content as another document of the collection, {error.document_id}. What was"
            " served before still is: delete this document if that one takes its place.",
            retryable=False,
        )
    if not isinstance(error, AppError):
        return Failure(error.code.value, error.message, error.retryable, of_the_file=True)
    return Failure(error.code, error.message, error.category in _PASSING, error.retry_after_seconds)


async def settle_failure(runtime: Runtime, claim: Claim, failure: Failure) -> bool:
    """Write down that this start failed: to be tried again after a pause, or for good. True when it is for good.

    Raises Superseded when it is not this claim's to say any more.
    """
    principal = principal_of(claim.organization_id)
    again = failure.retryable and claim.postponed < runtime.settings.job_max_retries
    if failure.of_the_file:
        again = again and claim.attempts < runtime.settings.job_max_crashes
    async with runtime.database.unit_of_work(principal) as session:
        versions = VersionRepository(session, principal)
        if await versions.lock(claim) is None:
            raise Superseded
        if again:
            pause = min(_FIRST_PAUSE_SECONDS * 3.0**claim.postponed, _LONGEST_PAUSE_SECONDS)
            pause = min(max(pause, failure.pause_seconds or 0), _LONGEST_PAUSE_SECONDS)
            held = await queue.postpone(session, claim, pause=timedelta(seconds=pause))
            status = DocumentStatus.UPLOADED
        else:
            held = await queue.finish(session, claim)
            status = DocumentStatus.FAILED
        if not held:
            raise Superseded
        await versions.settle(claim.document_id, {"status": status, "error": failure.as_json()})
    return not again


async def forget(runtime: Runtime, claim: Claim) -> None:
    """End a claim whose work is not wanted any more; nothing where it is lost already."""
    principal = principal_of(claim.organization_id)
    async with runtime.database.unit_of_work(principal) as session:
        await queue.finish(session, claim)


async def give_back(runtime: Runtime, claim: Claim) -> None:
    """Let another worker have the document, as if this one had not started."""
    principal = principal_of(claim.organization_id)
    async with runtime.database.unit_of_work(principal) as session:
        versions = VersionRepository(session, principal)
        if await versions.lock(claim) is not None and await queue.release(session, claim):
            await versions.settle(claim.document_id, {"status": DocumentStatus.UPLOADED, "progress": 0.0})
