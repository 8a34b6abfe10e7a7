"""Documents that are there: list, read, change, process again, delete."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.core import cursor
from app.core.errors import DocumentNotFound, NothingToReprocess, NotProcessing
from app.core.principal import Principal
from app.db import queue
from app.db.engine import Transaction
from app.db.models import Chunk, Document, DocumentStatus, Page
from app.db.repositories.documents import DocumentRepository
from app.db.repositories.versions import VersionRepository
from app.services import access, files, session_files, titles
from app.services.runtime import Runtime

_CANCELLED: Final = {
    "code": "cancelled",
    "message": "Processing was cancelled before it was done.",
    "retryable": True,
}


async def newest(
    session: Transaction,
    principal: Principal,
    *,
    limit: int,
    after: str | None,
    offset: int,
    conditions: Mapping[str, Any],
) -> tuple[Sequence[Document], str | None]:
    """A page of the documents that the caller sees, newest first, and the cursor of the next one (None at the end).

    Raises InvalidCursor.
    """
    reach = await access.reach_of(session, principal)
    found = await DocumentRepository(session, principal).newest(
        limit=limit + 1,
        after=cursor.decode(after) if after else None,
        offset=offset,
        conditions=conditions,
        within=reach.visible,
    )
    page = found[:limit]
    more = len(found) > limit
    return page, cursor.encode(page[-1].created_at, page[-1].id) if more else None


async def get(session: Transaction, principal: Principal, document_id: str) -> Document:
    """Raises DocumentNotFound."""
    return await access.document(session, await access.reach_of(session, principal), document_id)


async def chunks(
    session: Transaction, principal: Principal, document_id: str, *, limit: int, offset: int
) -> tuple[Sequence[Chunk], bool]:
    """A page of the document's chunks in the order of the text, and whether there are more.

    Raises DocumentNotFound.
    """
    await get(session, principal, document_id)
    found = await DocumentRepository(session, principal).chunks(document_id, limit=limit + 1, offset=offset)
    return found[:limit], len(found) > limit


async def change(
    session: Transaction, principal: Principal, document_id: str, values: Mapping[str, Any]
) -> Document:
    """Set title, source, tags, metadata_ or collection_id (which moves it); its chunks follow at once.

    Raises DocumentNotFound, DocumentReadOnly, CollectionNotFound, CollectionReadOnly, TooManySessionFiles, and SameTextElsewhere
    when the collection that it moves to has the text already.
    """
    reach = await access.reach_of(session, principal)
    if "collection_id" in values:  # before the document: deleting a collection locks in this order too
        await access.require_place(session, reach, values["collection_id"])
    before = await access.changeable_document(session, reach, document_id)
    title = before.title
    if values.get("collection_id", before.collection_id) != before.collection_id:
        await session_files.require_room(session, principal, values["collection_id"])
    changed = await DocumentRepository(session, principal).change(document_id, values)
    if changed is None:
        raise DocumentNotFound
    if changed.title != title:
        await titles.changed(session, principal, changed)
    return changed


async def delete(runtime: Runtime, principal: Principal, document_id: str) -> None:
    """Delete the document with its text, chunks, vectors and file; when this returns, nothing of it can be found.

    Whoever processes it loses it. Raises DocumentNotFound and DocumentReadOnly.
    """
    async with runtime.database.unit_of_work(principal) as session:
        reach = await access.reach_of(session, principal)
        document = await access.changeable_document(session, reach, document_id)
        both = document.storage_key, (document.pending or {}).get("storage_key")
        stored = [key for key in both if key is not None]
        if not await DocumentRepository(session, principal).delete(document_id):
            raise DocumentNotFound
        await queue.announce(session, document_id)
    if stored:
        await files.purge(runtime, stored)


async def reprocess(session: Transaction, principal: Principal, document_id: str) -> Document:
    """Have the document read, chunked and embedded anew; what is served stays until that is done.

    One that waits or is being processed already is left to it. Raises DocumentNotFound, DocumentReadOnly and
    NothingToReprocess.
    """
    reach = await access.reach_of(session, principal)
    document = await access.changeable_document(session, reach, document_id)
    if await queue.is_queued(session, document_id):
        return document
    if not (document.pending or document.storage_key or document.url or document.page_count):
        raise NothingToReprocess
    started = await VersionRepository(session, principal).start_again(document_id, {})
    if started is None:
        raise DocumentNotFound
    await queue.enqueue(
        session,
        document_id=document_id,
        organization_id=started.organization_id,
        generation=started.generation,
    )
    return started


async def cancel(session: Transaction, principal: Principal, document_id: str) -> Document:
    """Stop processing the document: it is what it was before, or has failed when it was nothing yet.

    Raises DocumentNotFound, DocumentReadOnly and NotProcessing.
    """
    reach = await access.reach_of(session, principal)
    document = await access.changeable_document(session, reach, document_id)
    if not await queue.cancel(session, document_id):
        raise NotProcessing
    values: dict[str, Any] = {"status": DocumentStatus.FAILED, "error": _CANCELLED}
    if document.chunk_count:
        values = {"status": DocumentStatus.COMPLETED, "error": None, "pending": None}
    stopped = await VersionRepository(session, principal).stop(document_id, values)
    if stopped is None:
        raise DocumentNotFound
    return stopped


async def pages(
    session: Transaction, principal: Principal, document_id: str, *, limit: int, offset: int
) -> tuple[Sequence[Page], bool]:
    """Some of the document's pages of text in their order, and whether there are more. Raises DocumentNotFound."""
    await get(session, principal, document_id)
    found = await VersionRepository(session, principal).pages(document_id, limit=limit + 1, offset=offset)
    return found[:limit], len(found) > limit
