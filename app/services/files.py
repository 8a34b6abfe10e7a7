"""The original files of documents: given out, and removed when no document has them any more."""

import hashlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Final

import structlog

from app.core.errors import AppError, OriginalDamaged, OriginalNotKept
from app.core.principal import SYSTEM, Principal
from app.db.repositories import idempotency, outbox
from app.services import access
from app.services.runtime import Runtime

log = structlog.get_logger(__name__)

_REMOVED_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was sent; its `content` ends in OriginalDamaged, before its last block, if it is not what was sent."""

    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    content: AsyncIterator[bytes]


async def open_file(runtime: Runtime, principal: Principal, document_id: str) -> File:
    """The file of the version that is served, or of the only one there is.

    Raises DocumentNotFound, OriginalNotKept, OriginalMissing, OriginalsUnavailable, and OriginalDamaged at once for a small
    file.
    """
    async with runtime.database.unit_of_work(principal) as session:
        document = await access.document(session, await access.reach_of(session, principal), document_id)
    if document.storage_key is None or document.storage_sha256 is None:
        raise OriginalNotKept
    content = _verified(runtime.originals.read(document.storage_key), document.storage_sha256)
    return File(
        filename=document.filename or document.title,
        content_type=document.content_type,
        size_bytes=document.size_bytes,
        sha256=document.storage_sha256,
        content=await _begun(content),
    )


async def _verified(blocks: AsyncIterator[bytes], sha256: str) -> AsyncIterator[bytes]:
    """The blocks, the last one only when all of them are what was stored."""
    found = hashlib.sha256()
    held: bytes | None = None
    async for block in blocks:
        found.update(block)
        if held is not None:
            yield held
        held = block
    if found.hexdigest() != sha256:
        log.error("original_damaged", sha256=sha256)
        raise OriginalDamaged
    if held is not None:
        yield held


async def _begun(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same blocks, the first of them read now: what is wrong with it can still be the status of the answer."""
    first = await anext(blocks, b"")

    async def all_blocks() -> AsyncIterator[bytes]:
        yield first
        async for block in blocks:
            yield block

    return all_blocks()


async def sweep(runtime: Runtime) -> int:
    """Remove the files that are due, requests that are too old, and what dead processes left; returns how many files."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        await idempotency.purge(session)
    total = runtime.spool.sweep()
    while removed := await _remove(runtime, None):
        total += removed
    return total


async def purge(runtime: Runtime, storage_keys: Collection[str]) -> None:
    """Remove these files now, as far as they are due; what can't be removed now stays on the list."""
    try:
        await _remove(runtime, storage_keys)
    except AppError as error:
        log.warning("files_not_removed", reason=error.code)


async def _remove(runtime: Runtime, among: Collection[str] | None) -> int:
    async with runtime.database.unit_of_work(SYSTEM) as session:
        keys = await outbox.due(session, limit=_REMOVED_AT_ONCE, among=among)
        for key in keys:
            await runtime.originals.delete(key)
        if keys:
            await outbox.removed(session, keys)
    return len(keys)
