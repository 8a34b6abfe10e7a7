"""Where a document goes: a collection that its sender may add to, or the document that it is to replace."""

from dataclasses import dataclass

from app.core.errors import SameTextElsewhere
from app.core.principal import Principal
from app.db import queue
from app.db.engine import Transaction
from app.db.models import Document
from app.db.repositories.documents import DocumentRepository
from app.db.repositories.versions import VersionRepository
from app.services import access
from app.services.access import Reach


@dataclass(frozen=True, slots=True)
class Place:
    """`replaced` is the document that gets new content; `same` the one that has this content already."""

    collection_id: str
    replaced: Document | None
    same: Document | None


async def find(
    session: Transaction,
    principal: Principal,
    *,
    sha256: str,
    collection_id: str | None = None,
    document_id: str | None = None,
    origin: str | None = None,
) -> Place:
    """The place of a document with this content. What comes from the same origin again replaces what came before.

    An origin whose content has become that of another document is one of that document's from now on, and what came from
    there before is deleted.

    Raises CollectionNotFound, CollectionReadOnly, CollectionRequired, DocumentNotFound, DocumentReadOnly, and
    SameTextElsewhere where the content is another document's than the one named.
    """
    reach = await access.reach_of(session, principal)
    if collection_id is not None:
        await access.require_place(session, reach, collection_id)
    replaced = None
    if document_id is not None:
        replaced = await access.changeable_document(session, reach, document_id)
    if collection_id is None and replaced is not None:
        collection_id = replaced.collection_id
    elif collection_id is None:
        collection_id = await access.home_id(session, reach)
        reach = await access.reach_of(session, principal)  # a personal collection may have been made just now
        await access.require_place(session, reach, collection_id)
    versions = VersionRepository(session, principal)
    same = await versions.find_same(collection_id=collection_id, sha256=sha256)
    if same is not None and replaced is not None and same.id != replaced.id:
        raise SameTextElsewhere(details={"document_id": same.id})
    if same is not None and origin is not None:
        same = await _merged(session, reach, same, origin)
    if same is None and replaced is None and origin is not None:
        earlier = await versions.find_by_origin(collection_id=collection_id, origin=origin)
        if earlier is not None:
            replaced = await access.changeable_document(session, reach, earlier.id)
            if replaced.other_origins:  # what it holds is still what is to be found there
                await versions.part(replaced, origin)
                replaced = None
    return Place(collection_id, replaced, same)


async def _merged(session: Transaction, reach: Reach, same: Document, origin: str) -> Document:
    """The document that has the content, as one that comes from this origin too."""
    if origin in (same.origin, *same.other_origins):
        return same
    versions = VersionRepository(session, reach.principal)
    earlier = await versions.find_by_origin(collection_id=same.collection_id, origin=origin)
    if earlier is not None:
        if not same.chunk_count:  # until it is served, what came before is better than nothing
            return same
        earlier = await access.changeable_document(session, reach, earlier.id)
        if earlier.other_origins:
            await versions.part(earlier, origin)
        else:
            await DocumentRepository(session, reach.principal).delete(earlier.id)
            await queue.announce(session, earlier.id)
    return await versions.adopt(same, origin)
