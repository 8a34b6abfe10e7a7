"""Where documents go: what every ingestion asks of the collections."""

from collections.abc import Collection as Ids
from typing import Final

from sqlalchemy import text

from app.core import ids
from app.db.repositories.base import TextRepository, known_users

_KEEP: Final = text("""
SELECT id FROM collections
 WHERE organization_id = :organization_id AND id = :collection_id
   AND CASE WHEN session_id IS NOT NULL THEN created_by = :user_id
            ELSE CAST(:within AS text[]) IS NULL OR id = ANY(CAST(:within AS text[])) END
   FOR KEY SHARE
""")
_DEFAULT: Final = text("SELECT id FROM collections WHERE organization_id = :organization_id AND is_default")
_PERSONAL: Final = text(
    "SELECT id FROM collections WHERE organization_id = :organization_id AND owner_id = :user_id"
)
_ADD_PERSONAL: Final = text("""
INSERT INTO collections (id, organization_id, name, visibility, owner_id, created_by)
VALUES (:id, :organization_id, :name, 'restricted', :user_id, :user_id)
ON CONFLICT (organization_id, owner_id) WHERE owner_id IS NOT NULL DO NOTHING
""")


class PlaceRepository(TextRepository):
    async def keep(self, collection_id: str, *, within: Ids[str] | None) -> bool:
        """Hold off the deletion of a collection until the transaction ends; False when there is none such.

        It is `within` what the caller sees, or of a session of theirs.
        """
        kept = await self.session.scalar(
            _KEEP,
            {
                "organization_id": self.organization_id,
                "collection_id": collection_id,
                "user_id": self.principal.id,
                "within": None if within is None else sorted(within),
            },
        )
        return kept is not None

    async def default_id(self) -> str:
        """The collection that documents go to when none is named; every organization is made with one."""
        return str((await self.session.execute(_DEFAULT, {"organization_id": self.organization_id})).one().id)

    async def personal_id(self, *, name: str) -> str:
        """The calling user's own collection, made unless it is there; of several that make it at once, one does."""
        mine = {"organization_id": self.organization_id, "user_id": self.principal.id}
        found: str | None = await self.session.scalar(_PERSONAL, mine)
        if found is not None:
            return found
        with known_users():
            await self.session.execute(
                _ADD_PERSONAL, {**mine, "id": ids.new(ids.Prefix.COLLECTION), "name": name}
            )
        return str((await self.session.execute(_PERSONAL, mine)).one().id)
