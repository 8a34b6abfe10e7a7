"""Collections of the caller's organization."""

from collections.abc import Collection as Ids

from sqlalchemy import select

from app.core import ids
from app.db.models import Collection
from app.db.repositories.base import Repository


class CollectionRepository(Repository):
    async def find(self, collection_id: str) -> Collection | None:
        result: Collection | None = await self.session.scalar(
            select(Collection).where(
                Collection.organization_id == self.organization_id, Collection.id == collection_id
            )
        )
        return result

    async def missing(self, collection_ids: Ids[str]) -> set[str]:
        """Those of the ids that are not collections of the organization."""
        found = await self.session.scalars(
            select(Collection.id).where(
                Collection.organization_id == self.organization_id, Collection.id.in_(collection_ids)
            )
        )
        return set(collection_ids) - set(found)

    async def default_id(self) -> str:
        """The collection that documents go to when none is named; every organization is made with one."""
        return (
            await self.session.scalars(
                select(Collection.id).where(
                    Collection.organization_id == self.organization_id, Collection.is_default
                )
            )
        ).one()

    async def add(self, name: str) -> Collection:
        collection = Collection(
            id=ids.new(ids.Prefix.COLLECTION),
            organization_id=self.organization_id,
            name=name,
            is_default=False,
        )
        self.session.add(collection)
        await self.session.flush()
        return collection
