"""What is wrong with an organization's part of the index, and which documents processing anew would mend."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import text

from app.db.repositories.base import Repository

_IN_ORGANIZATION: Final = "organization_id = :organization_id"
_STUCK: Final = f"""
SELECT d.id FROM documents d
 WHERE d.{_IN_ORGANIZATION} AND d.status IN ('uploaded', 'processing')
   AND NOT EXISTS (SELECT FROM jobs j WHERE j.document_id = d.id)
"""
_MISCOUNTED: Final = f"""
SELECT d.id FROM documents d LEFT JOIN chunks c ON c.document_id = d.id
 WHERE d.{_IN_ORGANIZATION}
 GROUP BY d.id
HAVING (count(c.id) FILTER (WHERE c.embedding_model = :embedding_model) <> d.chunk_count
        AND (count(c.id) = 0 OR count(c.id) FILTER (WHERE c.embedding_model = :embedding_model) > 0))
    OR (d.status = 'completed' AND d.chunk_count = 0)
"""
_OF_ANOTHER_MODEL: Final = f"""
SELECT c.document_id FROM chunks c WHERE c.{_IN_ORGANIZATION}
 GROUP BY c.document_id HAVING bool_and(c.embedding_model <> :embedding_model)
"""
_MISPLACED: Final = f"""
SELECT DISTINCT d.id FROM documents d JOIN chunks c ON c.document_id = d.id
 WHERE d.{_IN_ORGANIZATION} AND (c.collection_id <> d.collection_id OR c.organization_id <> d.organization_id)
"""
_ORPHANS: Final = f"""
SELECT c.id FROM chunks c WHERE c.{_IN_ORGANIZATION} AND NOT EXISTS (SELECT FROM documents d WHERE d.id = c.document_id)
"""
_WITHOUT_TERMS: Final = f"SELECT c.id FROM chunks c WHERE c.{_IN_ORGANIZATION} AND c.terms IS NULL"
_OVERDUE_FILES: Final = f"""
SELECT storage_key FROM file_deletions WHERE {_IN_ORGANIZATION} AND due_at < now() - interval '10 minutes'
"""
_STALE_STATISTICS: Final = """
SELECT 1 FROM (SELECT coalesce(sum(d.chunk_count), 0) AS chunks,
                      coalesce((SELECT t.chunks FROM term_counts t WHERE t.organization_id = :organization_id), 0) AS counted
                 FROM documents d WHERE d.organization_id = :organization_id) now
 WHERE abs(chunks - counted) > 0.2 * chunks + 100
"""
_QUEUE: Final = text(f"""
SELECT count(*) FILTER (WHERE available_at <= now()) AS ready,
       count(*) FILTER (WHERE claimed_by IS NOT NULL AND available_at > now()) AS running,
       count(*) FILTER (WHERE claimed_by IS NULL AND available_at > now()) AS postponed,
       coalesce(extract(epoch FROM now() - min(available_at) FILTER (WHERE available_at <= now())), 0) AS oldest
  FROM jobs WHERE {_IN_ORGANIZATION}
""")

PROBLEMS: Final[Mapping[str, str]] = {
    "stuck_documents": _STUCK,
    "miscounted_documents": _MISCOUNTED,
    "documents_of_another_model": _OF_ANOTHER_MODEL,
    "misplaced_documents": _MISPLACED,
    "orphaned_chunks": _ORPHANS,
    "chunks_without_terms": _WITHOUT_TERMS,
    "files_not_removed": _OVERDUE_FILES,
    "stale_statistics": _STALE_STATISTICS,
}
_MENDED_BY_PROCESSING: Final = (_STUCK, _MISCOUNTED, _OF_ANOTHER_MODEL, _MISPLACED)


class IndexHealthRepository(Repository):
    async def problems(self, *, embedding_model: str) -> dict[str, int]:
        """How often each problem is there; `embedding_model` is the name of the build that is served."""
        counts = {}
        for name, query in PROBLEMS.items():
            counts[name] = int(
                await self.session.scalar(
                    text(f"SELECT count(*) FROM ({query}) AS found"), self._parameters(query, embedding_model)
                )
                or 0
            )
        return counts

    async def to_process_anew(self, *, embedding_model: str, limit: int) -> Sequence[str]:
        """Documents that would be mended by it, but for those that wait already."""
        union = " UNION ".join(f"({query})" for query in _MENDED_BY_PROCESSING)
        return (
            await self.session.scalars(
                text(
                    f"SELECT f.id FROM ({union}) AS f (id) WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.document_id = f.id)"
                    " ORDER BY f.id LIMIT :limit"
                ),
                {**self._parameters(union, embedding_model), "limit": limit},
            )
        ).all()

    async def queue(self) -> tuple[int, int, int, float]:
        """Jobs that are ready, running and postponed, and for how many seconds the first has been ready."""
        row = (await self.session.execute(_QUEUE, {"organization_id": self.organization_id})).one()
        return row.ready, row.running, row.postponed, float(row.oldest)

    def _parameters(self, query: str, embedding_model: str) -> dict[str, Any]:
        parameters = {"organization_id": self.organization_id}
        if ":embedding_model" in query:
            parameters["embedding_model"] = embedding_model
        return parameters
