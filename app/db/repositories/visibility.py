"""Which collections a caller reaches, and how far. `app.services.access` decides whom to ask this for."""

from collections.abc import Collection as Ids
from typing import Final

from sqlalchemy import text

from app.core.access import Level
from app.db.repositories.base import TextRepository

_OF_USER: Final = text("""
SELECT c.id,
       CASE WHEN c.owner_id = :user_id OR u.permission = 'write' THEN 3
            WHEN c.visibility = 'organization' THEN 2 ELSE 1 END AS level
  FROM collections c
  LEFT JOIN collection_users u
    ON u.organization_id = c.organization_id AND u.collection_id = c.id AND u.user_id = :user_id
 WHERE c.organization_id = :organization_id
   AND (c.visibility = 'organization' OR c.owner_id = :user_id OR u.user_id IS NOT NULL)
""")
_EXISTING: Final = text("""
SELECT id FROM collections
 WHERE organization_id = :organization_id AND id = ANY(CAST(:ids AS text[]))
   AND (session_id IS NULL OR created_by = :user_id)
""")


class VisibilityRepository(TextRepository):
    async def of_user(self) -> dict[str, Level]:
        """The collections that the calling user reaches, each with the highest level."""
        rows = await self.session.execute(
            _OF_USER, {"organization_id": self.organization_id, "user_id": self.principal.id}
        )
        return {row.id: Level(row.level) for row in rows}

    async def missing(self, collection_ids: Ids[str]) -> set[str]:
        """Those of the ids that are not collections of the organization, or are of somebody else's session."""
        return set(collection_ids) - (await self.existing(collection_ids)).keys()

    async def existing(self, collection_ids: Ids[str]) -> dict[str, Level]:
        """Those of the ids that are not `missing`, all of them writable."""
        rows = await self.session.execute(
            _EXISTING,
            {
                "organization_id": self.organization_id,
                "ids": sorted(collection_ids),
                "user_id": self.principal.id,
            },
        )
        return dict.fromkeys((row.id for row in rows), Level.WRITE)
