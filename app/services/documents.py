"""Documents that are there: list, read, change, delete."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.core import cursor
from app.core.errors import DocumentNotFound
from app.core.principal import Principal
from app.db.engine import Transaction
from app.db.models import Chunk, Document
from app.db.repositories.documents import DocumentRepository
from app.services import access


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

    Raises DocumentNotFound, DocumentReadOnly, CollectionNotFound, CollectionReadOnly, and SameTextElsewhere when the
    collection that it moves to has the text already.
    """
    reach = await access.reach_of(session, principal)
    if "collection_id" in values:  # before the document: deleting a collection locks in this order too
        await access.require_place(session, reach, values["collection_id"])
    await access.changeable_document(session, reach, document_id)
    changed = await DocumentRepository(session, principal).change(document_id, values)
    if changed is None:
        raise DocumentNotFound
    return changed


async def delete(session: Transaction, principal: Principal, document_id: str) -> None:
    """Delete the document with its text, chunks and vectors; not findable once the transaction commits.

    Raises DocumentNotFound and DocumentReadOnly.
    """
    reach = await access.reach_of(session, principal)
    await access.changeable_document(session, reach, document_id)
    if not await DocumentRepository(session, principal).delete(document_id):
        raise DocumentNotFound
