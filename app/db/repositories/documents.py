"""Documents, their pages of text and their chunks."""

from collections.abc import Collection as Ids
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, exists, func, insert, or_, select, text, tuple_, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import defer

from app.core import ids
from app.core.errors import SameTextElsewhere
from app.db import queue
from app.db.models import Chunk, Collection, Document, DocumentStatus, IndexState, Page
from app.db.repositories.base import Repository, one_of
from app.db.repositories.new_chunks import NewChunk, columns

_INSERT_CHUNKS: Final = text("""
INSERT INTO chunks (id, organization_id, collection_id, document_id, ordinal, page, char_start, char_end, text, heading,
                    tags, metadata, language, terms, weights, embedding, embedding_model)
SELECT c.id, d.organization_id, d.collection_id, d.id, c.ordinal, c.page, c.char_start, c.char_end, c.text, c.heading,
       d.tags, d.metadata_json, c.language, (SELECT CAST(CAST(:terms AS text) AS int[]))[c.first_term\\:c.last_term], c.weights, c.embedding, :embedding_model
  FROM documents d,
       unnest(CAST(:chunk_ids AS text[]), CAST(:ordinals AS int[]), CAST(:pages AS int[]), CAST(:starts AS int[]),
              CAST(:ends AS int[]), CAST(:texts AS text[]), CAST(:headings AS text[]), CAST(:chunk_languages AS text[]), CAST(:first_terms AS int[]),
              CAST(:last_terms AS int[]), CAST(:weights AS sparsevec[]), CAST(:embeddings AS halfvec[]))
         AS c (id, ordinal, page, char_start, char_end, text, heading, language, first_term, last_term,
               weights, embedding)
 WHERE d.organization_id = :organization_id AND d.id = :document_id
""")

_WITHOUT_FILE: Final[Mapping[str, Any]] = dict.fromkeys(
    ("filename", "url", "stage", "error", "storage_key", "storage_sha256", "pending")
) | {"extraction": {}, "attempts": 0}

_SERVED: Final = select(func.coalesce(IndexState.build, IndexState.embedding_model)).scalar_subquery()
_CARRIED_BY_CHUNKS: Final = frozenset({"collection_id", "tags", "metadata_"})


def _of_everybody(within: Ids[str] | None) -> ColumnElement[bool]:
    """Whether a document is nobody's session's, and in one of these collections."""
    if within is not None:
        return one_of(Document.collection_id, within)
    shared: ColumnElement[bool] = Document.collection_id.collate("C") < ids.FIRST_OF_SESSIONS
    return shared


class DocumentRepository(Repository):
    async def find(
        self, document_id: str, *, within: Ids[str] | None = None, lock: bool = False
    ) -> Document | None:
        """A document, if it is in one of the collections `within` (None: in any), or in a session of the caller's."""
        query = select(Document).where(
            Document.organization_id == self.organization_id,
            Document.id == document_id,
            or_(_of_everybody(within), self._of_own_session()),
        )
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
        within: Ids[str] | None = None,
    ) -> Sequence[Document]:
        """A page of documents, newest first, of the collections `within` (None: of all).

        `conditions` may name collection_id, status, tag and title. Files of a session are listed only for its owner and
        where its collection is named.
        """
        query = select(Document).where(Document.organization_id == self.organization_id)
        collection_id = conditions.get("collection_id")
        if collection_id is not None and ids.is_of_session(collection_id):
            query = query.where(self._of_own_session())
        else:
            query = query.where(_of_everybody(within))
        if collection_id is not None:
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
                "built_for": 0,
                "terms_stale_from": None,
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

    def _of_own_session(self) -> ColumnElement[bool]:
        return exists().where(
            Collection.organization_id == self.organization_id,
            Collection.id == Document.collection_id,
            Collection.session_id.is_not(None),
            Collection.created_by == self.principal.id,
        )

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
        """A page of a document's chunks in the order of the text, without vectors: those of the build that is served."""
        return (
            await self.session.scalars(
                select(Chunk)
                .options(defer(Chunk.embedding), defer(Chunk.terms), defer(Chunk.weights))
                .where(Chunk.organization_id == self.organization_id, Chunk.document_id == document_id)
                .where(Chunk.embedding_model == func.coalesce(_SERVED, Chunk.embedding_model))
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
