"""Texts made searchable in one statement: document, page and chunks together."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import text

from app.core import ids
from app.core.chunking import ChunkingSettings, Splitter
from app.db.models import DocumentStatus
from app.db.repositories.base import TextRepository
from app.db.repositories.new_chunks import NewChunk, columns

_LOOK_UP: Final = text("""
SELECT c.chunk_size_tokens, c.chunk_overlap_tokens, c.splitter, d.id, d.title, d.chunk_count, d.status
  FROM collections c
  LEFT JOIN documents d ON d.organization_id = c.organization_id AND d.collection_id = c.id AND d.sha256 = :sha256
 WHERE c.organization_id = :organization_id AND c.id = :collection_id
""")

_ADD: Final = text("""
WITH stored AS (
  INSERT INTO documents (id, organization_id, collection_id, title, source, content_type, size_bytes, sha256, status,
                         metadata_json, tags, languages, created_by, page_count, chunk_count, origin)
  VALUES (:id, :organization_id, :collection_id, :title, :source, :content_type, :size_bytes, :sha256, 'completed',
          CAST(CAST(:metadata AS text) AS jsonb), CAST(:tags AS text[]), CAST(:languages AS text[]), :created_by, 1,
          :chunk_count, :origin)
  ON CONFLICT DO NOTHING
  RETURNING *
), paged AS (
  INSERT INTO pages (document_id, number, organization_id, text)
  SELECT id, 1, organization_id, CAST(:text AS text) FROM stored
), chunked AS (
  INSERT INTO chunks (id, organization_id, collection_id, document_id, ordinal, page, char_start, char_end, text, heading, tags,
                      metadata, language, terms, weights, embedding, embedding_model)
  SELECT c.id, d.organization_id, d.collection_id, d.id, c.ordinal, 1, c.char_start, c.char_end, c.text, c.heading,
         d.tags, d.metadata_json, c.language, (SELECT CAST(CAST(:terms AS text) AS int[]))[c.first_term\\:c.last_term], c.weights, c.embedding, :embedding_model
    FROM stored d,
         unnest(CAST(:chunk_ids AS text[]), CAST(:ordinals AS int[]), CAST(:starts AS int[]), CAST(:ends AS int[]),
                CAST(:texts AS text[]), CAST(:headings AS text[]), CAST(:chunk_languages AS text[]), CAST(:first_terms AS int[]),
                CAST(:last_terms AS int[]), CAST(:weights AS sparsevec[]), CAST(:embeddings AS halfvec[]))
           AS c (id, ordinal, char_start, char_end, text, heading, language, first_term, last_term, weights,
                 embedding)
)
SELECT id FROM stored
""")


@dataclass(frozen=True, slots=True)
class StoredText:
    """A document that holds a text."""

    id: str
    title: str
    chunk_count: int
    status: str = DocumentStatus.COMPLETED


class TextsRepository(TextRepository):
    async def look_up(
        self, *, collection_id: str, sha256: str
    ) -> tuple[ChunkingSettings, StoredText | None] | None:
        """How the collection chunks, and the document in it that has this content; None without such a collection."""
        parameters = {
            "organization_id": self.organization_id,
            "collection_id": collection_id,
            "sha256": sha256,
        }
        row = (await self.session.execute(_LOOK_UP, parameters)).one_or_none()
        if row is None:
            return None
        chunking = ChunkingSettings(row.chunk_size_tokens, row.chunk_overlap_tokens, Splitter(row.splitter))
        same = None if row.id is None else StoredText(row.id, row.title, row.chunk_count, row.status)
        return chunking, same

    async def add(
        self,
        values: Mapping[str, Any],
        page: str,
        chunks: Sequence[NewChunk],
        *,
        embedding_model: str,
    ) -> StoredText | None:
        """A new document of one page, `completed`; None when another one has this content meanwhile."""
        document_id = ids.new(ids.Prefix.DOCUMENT)
        row = (
            await self.session.execute(
                _ADD,
                {
                    **values,
                    "id": document_id,
                    "organization_id": self.organization_id,
                    "created_by": self.principal.id,
                    "metadata": json.dumps(values["metadata_"]),
                    "text": page,
                    "embedding_model": embedding_model,
                    **columns(chunks),
                },
            )
        ).one_or_none()
        return None if row is None else StoredText(document_id, values["title"], len(chunks))
