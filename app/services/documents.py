"""Documents that are there: list, read, delete."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.core import cursor
from app.core.errors import DocumentNotFound
from app.core.principal import Principal
from app.db.engine import Transaction
from app.db.models import Chunk, Document
from app.db.repositories.documents import DocumentRepository


async def newest(
    session: Transaction,
    principal: Principal,
    *,
    limit: int,
    after: str | None,
    offset: int,
    conditions: Mapping[str, Any],
) -> tuple[Sequence[Document], str | None]:
    """A page of documents, newest first, and the cursor of the next one (None at the end).

    Raises InvalidCursor.
    """
    found = await DocumentRepository(session, principal).newest(
        limit=limit + 1,
        after=cursor.decode(after) if after else None,
        offset=offset,
        conditions=conditions,
    )
    page = found[:limit]
    more = len(found) > limit
    return page, cursor.encode(page[-1].created_at, page[-1].id) if more else None


async def get(session: Transaction, principal: Principal, document_id: str) -> Document:
    """Raises DocumentNotFound."""
    document = await DocumentRepository(session, principal).find(document_id)
    if document is None:
        raise DocumentNotFound
    return document


async def chunks(
    session: Transaction, principal: Principal, document_id: str, *, limit: int, offset: int
) -> tuple[Sequence[Chunk], bool]:
    """A page of the document's chunks in the order of the text, and whether there are more.

    Raises DocumentNotFound.
    """
    await get(session, principal, document_id)
    found = await DocumentRepository(session, principal).chunks(document_id, limit=limit + 1, offset=offset)
    return found[:limit], len(found) > limit


async def delete(session: Transaction, principal: Principal, document_id: str) -> None:
    """Delete the document with its text, chunks and vectors; not findable once the transaction commits.

    Raises DocumentNotFound.
    """
    if not await DocumentRepository(session, principal).delete(document_id):
        raise DocumentNotFound
