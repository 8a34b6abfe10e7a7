"""Ingestion of a text: clean → chunk → embed → one transaction that makes it searchable."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.core.errors import (
    BlankText,
    Conflict,
    DocumentNotFound,
    SameTextElsewhere,
    TextTooLarge,
)
from app.core.principal import Principal
from app.core.text import clean
from app.db.engine import Database
from app.db.repositories.documents import DocumentRepository, NewChunk
from app.db.repositories.texts import StoredText, TextsRepository
from app.rag import chunking
from app.services import access, embeddings, indexing
from app.services.runtime import Runtime

_TITLE_CHARACTERS: Final = 80
_THREAD_FROM_CHARACTERS: Final = 2_000
"""Shorter texts are chunked in less time than a thread costs."""


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


@dataclass(frozen=True, slots=True)
class Ingested:
    """The document that now holds the text; `duplicate` when it did so before."""

    document: StoredText
    duplicate: bool


async def ingest_text(runtime: Runtime, principal: Principal, item: TextSource) -> Ingested:
    """Make a text searchable; when this returns, it is committed.

    The same text in the same collection is the same document and is not embedded again. With `document_id` the text
    replaces that document's. Raises BlankText, TextTooLarge, CollectionNotFound, DocumentNotFound, Conflict when the
    text is another document's already, and EmbeddingUnavailable.
    """
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
    collection_id, known = await _place(runtime.database, principal, item, sha256)
    if known is not None:
        return Ingested(known, duplicate=True)
    chunks = await _chunks(runtime, text, title=item.title or "")
    if not chunks:
        raise BlankText
    values = {
        "collection_id": collection_id,
        "title": item.title or _title_of(text),
        "source": item.source,
        "content_type": item.content_type,
        "size_bytes": size_bytes,
        "sha256": sha256,
        "tags": list(item.tags),
        "metadata_": item.metadata or {},
        "chunk_count": len(chunks),
        "languages": indexing.languages_of([(chunk.language, chunk.terms) for chunk in chunks]),
    }
    if item.document_id is not None:
        return await _replace(runtime, principal, item.document_id, values, text, chunks)
    return await _add(runtime, principal, values, text, chunks)


async def _place(
    database: Database, principal: Principal, item: TextSource, sha256: str
) -> tuple[str, StoredText | None]:
    """The collection that the text goes to, and the document that already is this text there."""
    if item.document_id is not None:
        return await _place_of(database, principal, item, item.document_id, sha256)
    async with database.direct(principal) as session:
        reach = await access.reach_of(session, principal)
        if item.collection_id is not None:
            await access.require_place(session, reach, item.collection_id)
        collection_id = item.collection_id or await access.home_id(session, reach)
        same = await TextsRepository(session, principal).find_same(collection_id=collection_id, sha256=sha256)
        return collection_id, same


async def _place_of(
    database: Database, principal: Principal, item: TextSource, document_id: str, sha256: str
) -> tuple[str, StoredText | None]:
    """The same for a text that replaces a document's, which stays where it is unless another collection is named."""
    async with database.unit_of_work(principal) as session:
        reach = await access.reach_of(session, principal)
        if item.collection_id is not None:
            await access.require_place(session, reach, item.collection_id)
        replaced = await access.changeable_document(session, reach, document_id)
        collection_id = item.collection_id or replaced.collection_id
        same = await TextsRepository(session, principal).find_same(collection_id=collection_id, sha256=sha256)
        if same is not None and document_id != same.id:
            raise SameTextElsewhere(details={"document_id": same.id})
        return collection_id, same


async def _chunks(runtime: Runtime, text: str, *, title: str) -> list[NewChunk]:
    """Chunk and embed; no database connection is held meanwhile.

    The title is for the words alone: as part of what is embedded it makes vectors worse.
    """
    settings = runtime.settings
    size = min(settings.chunk_size_tokens, runtime.embeddings.max_tokens)
    pages = [chunking.Page(1, text)]
    overlap = min(settings.chunk_overlap_tokens, size // 2)

    def cut() -> tuple[list[chunking.Chunk], list[indexing.Analysed]]:
        pieces = chunking.split(pages, size_tokens=size, overlap_tokens=overlap)
        return pieces, indexing.analyse(settings, [piece.text for piece in pieces], title=title)

    pieces, analysed = cut() if len(text) < _THREAD_FROM_CHARACTERS else await asyncio.to_thread(cut)
    vectors = await embeddings.texts(runtime.embeddings, [piece.text for piece in pieces])
    return [
        NewChunk(
            ordinal=piece.ordinal,
            page=piece.page,
            start=piece.start,
            end=piece.end,
            text=piece.text,
            language=language,
            terms=terms,
            embedding=vector,
        )
        for piece, (language, terms), vector in zip(pieces, analysed, vectors, strict=True)
    ]


async def _add(
    runtime: Runtime, principal: Principal, values: dict[str, Any], text: str, chunks: Sequence[NewChunk]
) -> Ingested:
    async with runtime.database.direct(principal) as session:
        # Asked again: while the text was being embedded the collection may have gone, or the right to write to it.
        reach = await access.reach_of(session, principal)
        await access.require_place(session, reach, values["collection_id"])
        texts = TextsRepository(session, principal)
        stored = await texts.add(
            values,
            text,
            chunks,
            embedding_model=runtime.embeddings.fingerprint,
        )
        if stored is not None:
            return Ingested(stored, duplicate=False)
        # Somebody stored the same text while this one was being embedded.
        same = await texts.find_same(collection_id=values["collection_id"], sha256=values["sha256"])
        if same is None:
            raise Conflict("The same text was being stored and deleted meanwhile; send it again.")
        return Ingested(same, duplicate=True)


async def _replace(
    runtime: Runtime,
    principal: Principal,
    document_id: str,
    values: dict[str, Any],
    text: str,
    chunks: Sequence[NewChunk],
) -> Ingested:
    async with runtime.database.unit_of_work(principal) as session:
        documents = DocumentRepository(session, principal)
        reach = await access.reach_of(session, principal)
        await access.require_place(session, reach, values["collection_id"])
        await access.changeable_document(session, reach, document_id)
        if await documents.replace(document_id, values, [text]) is None:
            raise DocumentNotFound
        await documents.add_chunks(
            document_id,
            chunks,
            embedding_model=runtime.embeddings.fingerprint,
        )
    return Ingested(StoredText(document_id, values["title"], len(chunks)), duplicate=False)


def _title_of(text: str) -> str:
    """The first line with something in it, without Markdown's hashes, cut at a word."""
    line = next(line for line in text.splitlines() if line.strip()).strip().lstrip("#").strip() or "Untitled"
    if len(line) <= _TITLE_CHARACTERS:
        return line
    return line[:_TITLE_CHARACTERS].rsplit(" ", 1)[0] + "…"
