"""Where a document goes: a collection that its sender may add to, or the document that it is to replace."""

from dataclasses import dataclass

from app.core.errors import SameTextElsewhere
from app.core.principal import Principal
from app.db.engine import Transaction
from app.db.models import Document
from app.db.repositories.versions import VersionRepository
from app.services import access


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
    if same is not None and same.origin is None and origin is not None:
        same = await versions.adopt(same, origin)
    if same is None and replaced is None and origin is not None:
        earlier = await versions.find_by_origin(collection_id=collection_id, origin=origin)
        if earlier is not None:
            replaced = await access.changeable_document(session, reach, earlier.id)
    return Place(collection_id, replaced, same)
