"""The files of a session: where they go, and how far those are that are being read."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import text

from app.core import ids
from app.db.repositories.base import TextRepository

_MAKE_SESSION: Final = text("""
INSERT INTO sessions (organization_id, id, owner_id, title, title_source)
VALUES (:organization_id, :session_id, :owner_id, :title, 'file')
ON CONFLICT (organization_id, id) DO NOTHING
""")
_HOLD_SESSION: Final = text("""
SELECT owner_id FROM sessions WHERE organization_id = :organization_id AND id = :session_id FOR KEY SHARE
""")
_MAKE_COLLECTION: Final = text("""
INSERT INTO collections (id, organization_id, name, visibility, session_id, created_by)
VALUES (:id, :organization_id, :name, 'restricted', :session_id, :owner_id)
ON CONFLICT (organization_id, session_id) WHERE session_id IS NOT NULL DO NOTHING
""")
_COLLECTION: Final = text("""
SELECT c.id, (SELECT count(*) FROM documents d
               WHERE d.organization_id = c.organization_id AND d.collection_id = c.id) AS documents
  FROM collections c WHERE c.organization_id = :organization_id AND c.session_id = :session_id
""")
_HOLD_OFF: Final = text(
    "SELECT pg_advisory_xact_lock(hashtextextended('files ' || CAST(:collection_id AS text), 0))"
)
_COUNT: Final = text("""
SELECT count(*) FROM documents WHERE organization_id = :organization_id AND collection_id = :collection_id
""")
_PROGRESS: Final = text("""
SELECT d.id, d.title, d.status, d.stage, d.progress, d.revision, d.chunk_count, CAST(d.error AS text) AS error
  FROM documents d JOIN collections c ON c.organization_id = d.organization_id AND c.id = d.collection_id
 WHERE d.organization_id = :organization_id AND d.collection_id = :collection_id AND c.created_by = :owner_id
   AND (d.status IN ('uploaded', 'processing') OR d.id = ANY(CAST(:known AS text[])))
 ORDER BY d.created_at DESC, d.id DESC LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class Shelf:
    """The collection of a session's files, and how many are in it."""

    collection_id: str
    documents: int


@dataclass(frozen=True, slots=True)
class FileState:
    """How far a file of a session is; `error` is JSON, `chunks` those of a version that is served."""

    document_id: str
    title: str
    status: str
    stage: str | None
    progress: float
    revision: int
    chunks: int
    error: str | None


class SessionFileRepository(TextRepository):
    async def shelf(self, session_id: str, *, title: str, name: str) -> Shelf | None:
        """Where files of a session of the caller's go; both are made where they are not there. None for somebody else's.

        The session stays there until the transaction ends.
        """
        values = {
            "organization_id": self.organization_id,
            "owner_id": self.principal.id,
            "session_id": session_id,
        }
        await self.session.execute(_MAKE_SESSION, {**values, "title": title})
        if await self.session.scalar(_HOLD_SESSION, values) != self.principal.id:
            return None
        await self.session.execute(
            _MAKE_COLLECTION, {**values, "id": ids.new(ids.Prefix.SESSION_FILES), "name": name}
        )
        row = (await self.session.execute(_COLLECTION, values)).one()
        return Shelf(row.id, row.documents)

    async def count(self, collection_id: str) -> int:
        """How many files are in the collection of a session. Whoever else asks waits until the transaction ends."""
        values = {"organization_id": self.organization_id, "collection_id": collection_id}
        await self.session.execute(_HOLD_OFF, {"collection_id": collection_id})
        return int(await self.session.scalar(_COUNT, values) or 0)

    async def progress(self, collection_id: str, *, known: Collection[str], limit: int) -> list[FileState]:
        """The files of the caller's session that are yet to be read, and those `known`, newest first."""
        values: dict[str, Any] = {
            "organization_id": self.organization_id,
            "owner_id": self.principal.id,
            "collection_id": collection_id,
            "known": sorted(known),
            "limit": limit,
        }
        return [FileState(*row) for row in await self.session.execute(_PROGRESS, values)]
