"""Files that arrive: stored, given a document and a job, and from then on the workers' matter.

The file is written down as one to remove before it is stored; the transaction that makes its document strikes it off that
list. So whatever dies in between leaves either a document with its file or neither.
"""

import asyncio
import errno
import hashlib
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from app.core import ids
from app.core.errors import (
    BlankText,
    Conflict,
    OriginalMissing,
    StorageFull,
    TextTooLarge,
    UploadInterrupted,
)
from app.core.principal import Principal
from app.core.text import clean, file_name, title_of
from app.db import queue
from app.db.engine import Transaction
from app.db.models import Document, DocumentStatus
from app.db.repositories.outbox import OutboxRepository
from app.db.repositories.versions import VersionRepository
from app.services import places, session_files, upload_checks
from app.services.runtime import Runtime
from app.storage.spool import Spool, SpooledFile

_STORING_GRACE: Final = timedelta(minutes=30)
"""How long storing a file may take before it counts as abandoned."""

_BLOCK_BYTES: Final = 1024 * 1024
_TITLE_CHARACTERS: Final = 500
_FREE_BYTES: Final = 1_000_000
_BYTES_A_SECOND: Final = 100_000
_LARGEST_DELAY: Final = timedelta(minutes=10)
_BULK_DELAY: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody says of what they send. With `origin` the same origin is the same document, whatever it holds.

    `bulk` is one of many: it lets those pass that somebody waits for.
    """

    title: str | None = None
    source: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    collection_id: str | None = None
    document_id: str | None = None
    origin: str | None = None
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The document; `duplicate` when it was there before with this content."""

    document: Document
    duplicate: bool


@dataclass(frozen=True, slots=True)
class _Version:
    """A file as the document's row tells of it."""

    filename: str | None
    content_type: str
    size_bytes: int
    sha256: str
    storage_key: str


async def accept(
    runtime: Runtime,
    principal: Principal,
    file: SpooledFile,
    wish: Wish,
    *,
    filename: str | None,
    content_type: str,
) -> Accepted:
    """Store a file and have it processed; when this returns, that is committed.

    Raises what `places.find` raises, StorageFull and OriginalsUnavailable.
    """
    storage_key = ids.new_storage_key()
    async with runtime.database.unit_of_work(principal) as session:
        if known := await _known(session, principal, file.sha256, wish):
            return known
        await OutboxRepository(session, principal).add(storage_key, grace=_STORING_GRACE)
    version = _Version(file_name(filename), content_type, file.size_bytes, file.sha256, storage_key)
    await runtime.originals.put(file.path, storage_key)
    async with runtime.database.unit_of_work(principal) as session:
        outbox = OutboxRepository(session, principal)
        known = await _known(session, principal, file.sha256, wish)
        document = None if known else await _write(session, principal, version, wish)
        if document is None:  # somebody else was faster with the same file
            known = known or await _known(session, principal, file.sha256, wish)
            if known is None:
                raise Conflict("The same file was being stored and deleted meanwhile; send it again.")
            await outbox.drop(storage_key)
            return known
        if not await outbox.keep(storage_key):
            raise UploadInterrupted("Storing the file took too long; send it again.")
        await _enqueue(session, document, wish)
    return Accepted(document, duplicate=False)


async def accept_path(runtime: Runtime, principal: Principal, path: Path, wish: Wish) -> Accepted:
    """Store a copy of a file of this machine, to be processed.

    Raises what `accept` and `check_file` raise, and OriginalMissing when it can't be read.
    """
    limit = runtime.settings.max_upload_bytes
    try:
        file = await asyncio.to_thread(_copied, runtime.spool, path, limit)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StorageFull from error
        raise OriginalMissing(f"The file can't be read ({error.strerror}).") from error
    try:
        content_type = upload_checks.check_file(file, filename=path.name, declared=None, limit_bytes=limit)
        return await accept(runtime, principal, file, wish, filename=path.name, content_type=content_type)
    finally:
        await asyncio.to_thread(file.discard)


def _copied(spool: Spool, path: Path, limit_bytes: int) -> SpooledFile:
    """The file, as far as one byte past the limit."""
    file = spool.create()
    try:
        with path.open("rb") as original:
            while file.size_bytes <= limit_bytes and (block := original.read(_BLOCK_BYTES)):
                file.write(block)
        file.sync()
    except BaseException:
        file.discard()
        raise
    return file


async def accept_text(runtime: Runtime, principal: Principal, text: str, wish: Wish) -> Accepted:
    """Store a text as a file, to be processed; it is the same document as one that was ingested at once.

    Raises what `accept` raises, BlankText and TextTooLarge.
    """
    text = clean(text)
    content = text.encode()
    limit = runtime.settings.ingest_max_text_bytes
    if len(content) > limit:
        raise TextTooLarge(details={"limit_bytes": limit, "size_bytes": len(content)})
    if not text.strip():
        raise BlankText
    file = await asyncio.to_thread(_spooled, runtime.spool, content)
    try:
        named = replace(wish, title=wish.title or title_of(text))
        return await accept(runtime, principal, file, named, filename=None, content_type="text/plain")
    finally:
        await asyncio.to_thread(file.discard)


def _spooled(spool: Spool, content: bytes) -> SpooledFile:
    try:
        file = spool.create()
        try:
            file.write(content)
            file.sync()
        except BaseException:
            file.discard()
            raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StorageFull from error
        raise
    return file


async def accept_url(runtime: Runtime, principal: Principal, url: str, wish: Wish) -> Accepted:
    """Have a web page fetched and processed; the same address in the same collection is the same document.

    Raises UnsafeUrl, and what `places.find` raises.
    """
    url = runtime.web.check(url)
    sha256 = hashlib.sha256(f"address:{url}".encode()).hexdigest()
    async with runtime.database.unit_of_work(principal) as session:
        place = await places.find(
            session,
            principal,
            sha256=sha256,
            collection_id=wish.collection_id,
            document_id=wish.document_id,
            origin=url,
        )
        versions = VersionRepository(session, principal)
        if place.same is not None:
            return await _again(session, principal, place.same)
        values = {"url": url, "origin": url, "sha256": sha256}
        if place.replaced is not None:
            document = await versions.start_again(
                place.replaced.id, {"pending": None, **values, **_said(wish)}
            )
        else:
            await session_files.require_room(session, principal, place.collection_id)
            document = await versions.add_uploaded(
                {
                    "id": ids.new(ids.Prefix.DOCUMENT),
                    "collection_id": place.collection_id,
                    "content_type": "text/html",
                    "size_bytes": 0,
                    "title": url[:_TITLE_CHARACTERS],
                    "source": url,
                    **values,
                    **_said(wish),
                }
            )
        if document is None:
            raise Conflict("The same address was being added meanwhile; send it again.")
        await _enqueue(session, document, wish)
    return Accepted(document, duplicate=False)


async def _known(session: Transaction, principal: Principal, sha256: str, wish: Wish) -> Accepted | None:
    """The document that has this content already, or is about to."""
    place = await _place(session, principal, sha256, wish)
    same = place.same
    if same is not None and same.pending is not None and same.chunk_count:
        # What is served is wanted after all, and not what was to replace it.
        await queue.cancel(session, same.id)
        same = await VersionRepository(session, principal).stop(
            same.id, {"status": DocumentStatus.COMPLETED, "error": None, "pending": None}
        )
    if same is not None:
        return await _again(session, principal, same)
    replaced = place.replaced
    if replaced is not None and replaced.pending is not None and replaced.pending["sha256"] == sha256:
        return await _again(session, principal, replaced)
    return None


async def _place(session: Transaction, principal: Principal, sha256: str, wish: Wish) -> places.Place:
    return await places.find(
        session,
        principal,
        sha256=sha256,
        collection_id=wish.collection_id,
        document_id=wish.document_id,
        origin=wish.origin,
    )


async def _again(session: Transaction, principal: Principal, document: Document) -> Accepted:
    """The same content once more. What had failed is tried again: whoever sends it again wants it."""
    if document.status == DocumentStatus.FAILED and not await queue.is_queued(session, document.id):
        started = await VersionRepository(session, principal).start_again(document.id, {})
        if started is not None:
            document = started
            await _enqueue(session, document, Wish())
    return Accepted(document, duplicate=True)


async def _write(
    session: Transaction, principal: Principal, version: _Version, wish: Wish
) -> Document | None:
    """The document with this version: a new one, or the one whose served version stays until this one is complete."""
    place = await _place(session, principal, version.sha256, wish)
    versions = VersionRepository(session, principal)
    if place.replaced is not None:
        pending = {
            "storage_key": version.storage_key,
            "sha256": version.sha256,
            "size_bytes": version.size_bytes,
            "content_type": version.content_type,
            "filename": version.filename,
        }
        return await versions.start_again(place.replaced.id, {"pending": pending, **_said(wish)})
    await session_files.require_room(session, principal, place.collection_id)
    return await versions.add_uploaded(
        {
            "id": ids.new(ids.Prefix.DOCUMENT),
            "collection_id": place.collection_id,
            "title": version.filename or "Untitled",
            "source": version.filename,
            "filename": version.filename,
            "content_type": version.content_type,
            "size_bytes": version.size_bytes,
            "sha256": version.sha256,
            "storage_key": version.storage_key,
            "storage_sha256": version.sha256,
            "origin": wish.origin,
            **_said(wish),
        }
    )


def _said(wish: Wish) -> dict[str, Any]:
    """What was said of the document; what was not, stays as it is."""
    said: dict[str, Any] = {"title": wish.title, "source": wish.source}
    if wish.tags:
        said["tags"] = list(wish.tags)
    if wish.metadata:
        said["metadata_"] = wish.metadata
    return {name: value for name, value in said.items() if value is not None}


async def _enqueue(session: Transaction, document: Document, wish: Wish) -> None:
    size_bytes = document.pending["size_bytes"] if document.pending else document.size_bytes
    delay = timedelta(seconds=max(0, size_bytes - _FREE_BYTES) / _BYTES_A_SECOND)
    await queue.enqueue(
        session,
        document_id=document.id,
        organization_id=document.organization_id,
        generation=document.generation,
        behind=min(delay, _LARGEST_DELAY) + (_BULK_DELAY if wish.bulk else timedelta()),
    )
