"""Ingestion of a text: clean → chunk → embed → one transaction that makes it searchable."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.core.chunking import ChunkingSettings
from app.core.errors import BlankText, CollectionNotFound, Conflict, DocumentNotFound, TextTooLarge
from app.core.principal import Principal
from app.core.text import clean, title_of
from app.db.engine import AnyTransaction, Database
from app.db.models import DocumentStatus
from app.db.repositories import index_state
from app.db.repositories.documents import DocumentRepository
from app.db.repositories.new_chunks import NewChunk
from app.db.repositories.texts import StoredText, TextsRepository
from app.rag.chunking import Page
from app.services import access, chunks, places, session_files
from app.services.runtime import Runtime, on_served_index


@dataclass(frozen=True, slots=True)
class TextSource:
    """A text as somebody sent it, with what they say about it."""

    text: str
    title: str | None = None
    source: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] | None = None
    collection_id: str | None = None
    document_id: str | None = None
    content_type: str = "text/plain"
    origin: str | None = None
    """Where it comes from, for good: a changed file is an update of its document."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """The document that now holds the text; `duplicate` when it did so before."""

    document: StoredText
    duplicate: bool


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a text goes: `replaced` is the document that it becomes the text of, `same` the one that has it already."""

    collection_id: str
    chunking: ChunkingSettings
    replaced: str | None
    same: StoredText | None


async def ingest_text(runtime: Runtime, principal: Principal, item: TextSource) -> Ingested:
    """Make a text searchable; when this returns, it is committed.

    The same text in the same collection is the same document and is not embedded again; one that is being processed
    just now is left to its worker. With `document_id`, and from the same `origin`, the text replaces that document's.
    Raises BlankText, TextTooLarge, CollectionNotFound, DocumentNotFound, Conflict when the text is another document's
    already, and EmbeddingUnavailable.
    """
    return await on_served_index(runtime, lambda pinned: _ingest(pinned, principal, item))


async def _ingest(runtime: Runtime, principal: Principal, item: TextSource) -> Ingested:
    runtime.require_matching_index()
    text = clean(item.text)
    size_bytes = len(text.encode())
    if size_bytes > runtime.settings.ingest_max_text_bytes:
        raise TextTooLarge(
            details={"limit_bytes": runtime.settings.ingest_max_text_bytes, "size_bytes": size_bytes}
        )
    if not text.strip():
        raise BlankText
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    place = await _place(runtime.database, principal, item, sha256)
    if place.same is not None:
        return Ingested(place.same, duplicate=True)
    plan = chunks.plan_of(runtime, place.chunking)
    cut = await chunks.cut(runtime, [Page(1, text)], plan, title=item.title or "")
    if not cut.chunks:
        raise BlankText
    stored = chunks.to_store(cut, await chunks.embed(runtime, principal, cut.chunks))
    values = {
        "collection_id": place.collection_id,
        "title": item.title or title_of(text),
        "source": item.source,
        "content_type": item.content_type,
        "size_bytes": size_bytes,
        "sha256": sha256,
        "tags": list(item.tags),
        "metadata_": item.metadata or {},
        "chunk_count": len(stored),
        "languages": cut.languages,
        "origin": item.origin,
    }
    if place.replaced is not None:
        return await _replace(runtime, principal, place.replaced, values, text, stored)
    return await _add(runtime, principal, values, text, stored)


async def _place(database: Database, principal: Principal, item: TextSource, sha256: str) -> _Place:
    if item.document_id is not None or item.origin is not None:
        return await _place_of(database, principal, item, sha256)
    async with database.direct(principal) as session:
        reach = await access.reach_of(session, principal)
        if item.collection_id is not None:
            await access.require_place(session, reach, item.collection_id)
        collection_id = item.collection_id or await access.home_id(session, reach)
        return await _found(session, principal, collection_id, sha256, None)


async def _place_of(database: Database, principal: Principal, item: TextSource, sha256: str) -> _Place:
    """The same for a text that replaces a document's, which stays where it is unless another collection is named."""
    async with database.unit_of_work(principal) as session:
        place = await places.find(
            session,
            principal,
            sha256=sha256,
            collection_id=item.collection_id,
            document_id=item.document_id,
            origin=item.origin,
        )
        replaced = place.replaced.id if place.replaced else None
        return await _found(session, principal, place.collection_id, sha256, replaced)


async def _found(
    session: AnyTransaction, principal: Principal, collection_id: str, sha256: str, replaced: str | None
) -> _Place:
    known = await TextsRepository(session, principal).look_up(collection_id=collection_id, sha256=sha256)
    if known is None:
        raise CollectionNotFound
    chunking, same = known
    if same is not None and same.status == DocumentStatus.FAILED:  # whoever sends it again wants it
        return _Place(collection_id, chunking, same.id, None)
    return _Place(collection_id, chunking, replaced, same)


async def _add(
    runtime: Runtime, principal: Principal, values: dict[str, Any], text: str, new_chunks: Sequence[NewChunk]
) -> Ingested:
    async with runtime.live.room, runtime.database.direct(principal) as session:
        await index_state.hold(session, runtime.index_build)
        # Asked again: while the text was being embedded the collection may have gone, or the right to write to it.
        reach = await access.reach_of(session, principal)
        await access.require_place(session, reach, values["collection_id"])
        await session_files.require_room(session, principal, values["collection_id"])
        texts = TextsRepository(session, principal)
        stored = await texts.add(
            values,
            text,
            new_chunks,
            embedding_model=runtime.index_build,
        )
        if stored is not None:
            return Ingested(stored, duplicate=False)
        # Somebody stored the same text while this one was being embedded.
        known = await texts.look_up(collection_id=values["collection_id"], sha256=values["sha256"])
        if known is None or known[1] is None:
            raise Conflict("The same text was being stored and deleted meanwhile; send it again.")
        return Ingested(known[1], duplicate=True)


async def _replace(
    runtime: Runtime,
    principal: Principal,
    document_id: str,
    values: dict[str, Any],
    text: str,
    new_chunks: Sequence[NewChunk],
) -> Ingested:
    async with runtime.live.room, runtime.database.unit_of_work(principal) as session:
        await index_state.hold(session, runtime.index_build)
        documents = DocumentRepository(session, principal)
        reach = await access.reach_of(session, principal)
        await access.require_place(session, reach, values["collection_id"])
        await access.changeable_document(session, reach, document_id)
        if values["origin"] is None:  # where it came from stays as it is
            values = {name: value for name, value in values.items() if name != "origin"}
        if await documents.replace(document_id, values, [text]) is None:
            raise DocumentNotFound
        await documents.add_chunks(
            document_id,
            new_chunks,
            embedding_model=runtime.index_build,
        )
    return Ingested(StoredText(document_id, values["title"], len(new_chunks)), duplicate=False)
