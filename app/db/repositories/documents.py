"""Documents, their pages of text and their chunks."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector, SparseVector
from sqlalchemy import delete, func, insert, select, text, tuple_, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import defer

from app.core import ids
from app.core.errors import SameTextElsewhere
from app.core.retrieval import TERM_DIMENSION
from app.db import queue
from app.db.models import Chunk, Document, DocumentStatus, Page
from app.db.repositories.base import Repository, one_of

_INSERT_CHUNKS: Final = text("""
INSERT INTO chunks (id, organization_id, collection_id, document_id, ordinal, page, char_start, char_end, text, tags,
                    metadata, language, terms, weights, embedding, embedding_model)
SELECT c.id, d.organization_id, d.collection_id, d.id, c.ordinal, c.page, c.char_start, c.char_end, c.text, d.tags,
       d.metadata_json, c.language, CAST(c.terms AS int[]), c.weights, c.embedding, :embedding_model
  FROM documents d,
       unnest(CAST(:chunk_ids AS text[]), CAST(:ordinals AS int[]), CAST(:pages AS int[]), CAST(:starts AS int[]),
              CAST(:ends AS int[]), CAST(:texts AS text[]), CAST(:chunk_languages AS text[]), CAST(:terms AS text[]),
              CAST(:weights AS sparsevec[]), CAST(:embeddings AS halfvec[]))
         AS c (id, ordinal, page, char_start, char_end, text, language, terms, weights, embedding)
 WHERE d.organization_id = :organization_id AND d.id = :document_id
""")

_WITHOUT_FILE: Final[Mapping[str, Any]] = dict.fromkeys(
    ("filename", "url", "stage", "error", "storage_key", "storage_sha256", "pending")
) | {"extraction": {}, "attempts": 0}

_CARRIED_BY_CHUNKS: Final = frozenset({"collection_id", "tags", "metadata_"})


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk to store: offsets are code points into the text of its page, the embedding has one model's dimension.

    `terms` are its terms with their weights, made with the stemmer of its `language` (see `app.rag.terms`).
    """

    ordinal: int
    page: int
    start: int
    end: int
    text: str
    language: str
    terms: Mapping[int, float]
    embedding: NDArray[np.floating[Any]]


def sparse(terms: Mapping[int, float]) -> SparseVector:
    """Terms with their weights as the database keeps them; terms count from 1, the positions of a vector from 0."""
    return SparseVector({term - 1: weight for term, weight in terms.items()}, TERM_DIMENSION)


def columns(chunks: Sequence[NewChunk]) -> dict[str, list[Any]]:
    """The chunks as parameters: one array a column, each chunk with a new id."""
    return {
        "chunk_ids": [ids.new(ids.Prefix.CHUNK) for _ in chunks],
        "ordinals": [chunk.ordinal for chunk in chunks],
        "pages": [chunk.page for chunk in chunks],
        "starts": [chunk.start for chunk in chunks],
        "ends": [chunk.end for chunk in chunks],
        "texts": [chunk.text for chunk in chunks],
        "chunk_languages": [chunk.language for chunk in chunks],
        # An array of arrays would have to be rectangular.
        "terms": ["{" + ",".join(map(str, sorted(chunk.terms))) + "}" for chunk in chunks],
        "weights": [sparse(chunk.terms) for chunk in chunks],
        "embeddings": [HalfVector(chunk.embedding) for chunk in chunks],
    }


class DocumentRepository(Repository):
    async def find(
        self, document_id: str, *, within: Collection[str] | None = None, lock: bool = False
    ) -> Document | None:
        """A document, if it is in one of the collections `within` (None: in any)."""
        query = select(Document).where(
            Document.organization_id == self.organization_id, Document.id == document_id
        )
        if within is not None:
            query = query.where(one_of(Document.collection_id, within))
        if lock:
            query = query.with_for_update()
        result: Document | None = await self.session.scalar(query)
        return result

    async def newest(
        self,
        *,
        limit: int,
        after: tuple[datetime, str] | None,
        offset: int,
        conditions: Mapping[str, Any],
        within: Collection[str] | None = None,
    ) -> Sequence[Document]:
        """A page of documents, newest first, of the collections `within` (None: of all).

        `conditions` may name collection_id, status, tag and title.
        """
        query = select(Document).where(Document.organization_id == self.organization_id)
        if within is not None:
            query = query.where(one_of(Document.collection_id, within))
        if (collection_id := conditions.get("collection_id")) is not None:
            query = query.where(Document.collection_id == collection_id)
        if (status := conditions.get("status")) is not None:
            query = query.where(Document.status == status)
        if (tag := conditions.get("tag")) is not None:
            query = query.where(Document.tags.contains([tag]))
        if (title := conditions.get("title")) is not None:
            query = query.where(Document.title.icontains(title, autoescape=True))
        if after is not None:
            query = query.where(tuple_(Document.created_at, Document.id) < after)
        query = query.order_by(Document.created_at.desc(), Document.id.desc()).limit(limit).offset(offset)
        return (await self.session.scalars(query)).all()

    async def add_completed(self, values: Mapping[str, Any], pages: Sequence[str]) -> Document | None:
        """Store a document and its pages as `completed`; None when another one has this content meanwhile."""
        document: Document | None = await self.session.scalar(
            postgresql.insert(Document)
            .values(
                organization_id=self.organization_id,
                status=DocumentStatus.COMPLETED,
                created_by=self.principal.id,
                page_count=len(pages),
                **values,
            )
            .on_conflict_do_nothing()
            .returning(Document)
        )
        if document is not None:
            await self._add_pages(document.id, pages)
        return document

    async def replace(
        self, document_id: str, values: Mapping[str, Any], pages: Sequence[str]
    ) -> Document | None:
        """Give a document new content, its old pages and chunks removed; None when it is gone.

        Raises SameTextElsewhere when another document of the collection has this content.
        """
        document = await self._update(
            document_id,
            {
                "status": DocumentStatus.COMPLETED,
                "generation": Document.generation + 1,
                "revision": Document.revision + 1,
                "page_count": len(pages),
                **_WITHOUT_FILE,
                **values,
            },
        )
        if document is not None:
            await queue.cancel(self.session, document_id)
            await queue.announce(self.session, document_id)
            await self.session.execute(delete(Chunk).where(Chunk.document_id == document_id))
            await self.session.execute(delete(Page).where(Page.document_id == document_id))
            await self._add_pages(document_id, pages)
        return document

    async def change(self, document_id: str, values: Mapping[str, Any]) -> Document | None:
        """Set columns of a document, and on its chunks what they carry of them; None when it is gone.

        Raises SameTextElsewhere when it would move to where another document has the same content.
        """
        document = await self._update(document_id, values)
        if document is not None and not _CARRIED_BY_CHUNKS.isdisjoint(values):
            await self.session.execute(
                update(Chunk)
                .where(Chunk.organization_id == self.organization_id, Chunk.document_id == document_id)
                .values({name: value for name, value in values.items() if name in _CARRIED_BY_CHUNKS})
                .execution_options(synchronize_session=False)
            )
        return document

    async def _update(self, document_id: str, values: Mapping[str, Any]) -> Document | None:
        try:
            document: Document | None = await self.session.scalar(
                update(Document)
                .where(Document.organization_id == self.organization_id, Document.id == document_id)
                .values(updated_at=func.now(), **values)
                .returning(Document)
                .execution_options(populate_existing=True)
            )
        except IntegrityError as error:
            if "uq_documents" in str(error.orig):
                raise SameTextElsewhere from error
            raise
        return document

    async def _add_pages(self, document_id: str, pages: Sequence[str]) -> None:
        await self.session.execute(
            insert(Page),
            [
                {
                    "document_id": document_id,
                    "number": number,
                    "organization_id": self.organization_id,
                    "text": page,
                }
                for number, page in enumerate(pages, start=1)
            ],
        )

    async def add_chunks(self, document_id: str, chunks: Sequence[NewChunk], *, embedding_model: str) -> None:
        """Insert in one statement; collection, tags and metadata are copied from the document."""
        if not chunks:
            return
        await self.session.execute(
            _INSERT_CHUNKS,
            {
                "organization_id": self.organization_id,
                "document_id": document_id,
                "embedding_model": embedding_model,
                **columns(chunks),
            },
        )

    async def chunks(self, document_id: str, *, limit: int, offset: int) -> Sequence[Chunk]:
        """A page of a document's chunks in the order of the text, without vectors."""
        return (
            await self.session.scalars(
                select(Chunk)
                .options(defer(Chunk.embedding), defer(Chunk.terms), defer(Chunk.weights))
                .where(Chunk.organization_id == self.organization_id, Chunk.document_id == document_id)
                .order_by(Chunk.ordinal)
                .limit(limit)
                .offset(offset)
            )
        ).all()

    async def chunk(self, document_id: str, chunk_id: str) -> Chunk | None:
        """One chunk of a document, without vectors."""
        found: Chunk | None = await self.session.scalar(
            select(Chunk)
            .options(defer(Chunk.embedding), defer(Chunk.terms), defer(Chunk.weights))
            .where(
                Chunk.organization_id == self.organization_id,
                Chunk.document_id == document_id,
                Chunk.id == chunk_id,
            )
        )
        return found

    async def delete(self, document_id: str) -> bool:
        """Delete with pages and chunks, whose foreign keys cascade; False when there is no such document."""
        deleted = await self.session.scalar(
            delete(Document)
            .where(Document.organization_id == self.organization_id, Document.id == document_id)
            .returning(Document.id)
        )
        return deleted is not None
