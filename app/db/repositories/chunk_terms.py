"""The terms of chunks that are stored already, when the title of their document has changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select, text, update

from app.db.models import Document
from app.db.repositories.base import Repository
from app.db.repositories.new_chunks import sparse

_CHUNKS: Final = text("""
SELECT id, text, heading, language FROM chunks
 WHERE organization_id = :organization_id AND document_id = :document_id AND terms IS NOT NULL
   AND ordinal >= :first AND ordinal < :first + :many
 ORDER BY ordinal
""")
_SET: Final = text("""
UPDATE chunks c SET terms = CAST(n.terms AS int[]), weights = n.weights
  FROM unnest(CAST(:ids AS text[]), CAST(:terms AS text[]), CAST(:weights AS sparsevec[])) AS n (id, terms, weights)
 WHERE c.organization_id = :organization_id AND c.id = n.id RETURNING c.id
""")


@dataclass(frozen=True, slots=True)
class AnalysedChunk:
    """What the terms of a chunk are made of, beside the title of its document."""

    id: str
    text: str
    heading: str | None
    language: str


class ChunkTermsRepository(Repository):
    async def lock_stale(self, document_id: str) -> Document | None:
        """The document, held until the transaction ends; None when it is gone, up to date or held by somebody else."""
        document: Document | None = await self.session.scalar(
            select(Document)
            .where(
                Document.organization_id == self.organization_id,
                Document.id == document_id,
                Document.terms_stale_from.is_not(None),
            )
            .with_for_update(skip_locked=True)
        )
        return document

    async def mark(self, document_id: str, stale_from: int | None) -> bool:
        """Say from which chunk on the terms are those of an earlier title; None: from none. False when it is gone."""
        marked = await self.session.scalar(
            update(Document)
            .where(Document.organization_id == self.organization_id, Document.id == document_id)
            .values(terms_stale_from=stale_from, updated_at=Document.updated_at)  # it is no change of it
            .returning(Document.id)
        )
        return marked is not None

    async def chunks(self, document_id: str, *, first: int, many: int) -> list[AnalysedChunk]:
        """The chunks with so many ordinals from the first on, in all builds of the index."""
        rows = await self.session.execute(
            _CHUNKS,
            {
                "organization_id": self.organization_id,
                "document_id": document_id,
                "first": first,
                "many": many,
            },
        )
        return [AnalysedChunk(row.id, row.text, row.heading, row.language) for row in rows]

    async def replace(self, chunk_ids: Sequence[str], terms: Sequence[Mapping[int, float]]) -> int:
        """Give each of these chunks these terms with their weights; returns how many there were."""
        parameters: dict[str, Any] = {
            "organization_id": self.organization_id,
            "ids": list(chunk_ids),
            "terms": ["{" + ",".join(map(str, sorted(each))) + "}" for each in terms],
            "weights": [sparse(each) for each in terms],
        }
        return len((await self.session.execute(_SET, parameters)).all())
