"""Stored files that are to go. A file is written down here before it is stored, and off when its document is."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.repositories.base import Repository

_ADD: Final = text("""
INSERT INTO file_deletions (storage_key, organization_id, due_at) VALUES (:storage_key, :organization_id, now() + :grace)
""")
_KEEP: Final = text("""
DELETE FROM file_deletions WHERE storage_key = :storage_key AND organization_id = :organization_id RETURNING storage_key
""")
_DROP: Final = text("""
UPDATE file_deletions SET due_at = now() WHERE storage_key = :storage_key AND organization_id = :organization_id
""")
_DUE: Final = text("""
SELECT storage_key FROM file_deletions WHERE due_at <= now() ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED
""")
_DUE_OF: Final = text("""
SELECT storage_key FROM file_deletions
 WHERE storage_key = ANY(CAST(:storage_keys AS text[])) AND due_at <= now() FOR UPDATE SKIP LOCKED
""")
_DONE: Final = text("DELETE FROM file_deletions WHERE storage_key = ANY(CAST(:storage_keys AS text[]))")


class OutboxRepository(Repository):
    async def add(self, storage_key: str, *, grace: timedelta) -> None:
        """Have the file removed after the grace, unless it is kept before."""
        await self.session.execute(
            _ADD, {"storage_key": storage_key, "organization_id": self.organization_id, "grace": grace}
        )

    async def keep(self, storage_key: str) -> bool:
        """The file is a document's now; False when its grace is over and it is gone."""
        kept = await self.session.scalar(
            _KEEP, {"storage_key": storage_key, "organization_id": self.organization_id}
        )
        return kept is not None

    async def drop(self, storage_key: str) -> None:
        """Nobody needs the file: it may go at once."""
        await self.session.execute(
            _DROP, {"storage_key": storage_key, "organization_id": self.organization_id}
        )


async def due(session: AsyncSession, *, limit: int, among: Collection[str] | None = None) -> Sequence[str]:
    """Files to remove now, held for this transaction. For the system principal."""
    if among is None:
        return (await session.scalars(_DUE, {"limit": limit})).all()
    return (await session.scalars(_DUE_OF, {"storage_keys": sorted(among)})).all()


async def removed(session: AsyncSession, storage_keys: Collection[str]) -> None:
    """They are gone. For the system principal."""
    await session.execute(_DONE, {"storage_keys": sorted(storage_keys)})
