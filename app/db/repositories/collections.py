"""Collections of the caller's organization, and their access lists.

`within` are the collections that the caller may see; None leaves that open.
"""

from collections.abc import Collection as Ids
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql

from app.core import ids
from app.core.access import Permission, Visibility
from app.db.models import Collection, CollectionUser, Document
from app.db.repositories.base import Repository, known_users, one_of


@dataclass(frozen=True, slots=True)
class Counts:
    documents: int = 0
    chunks: int = 0


class CollectionRepository(Repository):
    async def find(
        self, collection_id: str, *, within: Ids[str] | None = None, lock: bool = False
    ) -> Collection | None:
        query = select(Collection).where(
            Collection.organization_id == self.organization_id, Collection.id == collection_id
        )
        if within is not None:
            query = query.where(one_of(Collection.id, within))
        if lock:
            query = query.with_for_update()
        result: Collection | None = await self.session.scalar(query)
        return result

    async def newest(
        self, *, limit: int, after: tuple[datetime, str] | None, offset: int, within: Ids[str] | None
    ) -> Sequence[Collection]:
        """A page of collections, newest first, without those of sessions."""
        query = select(Collection).where(
            Collection.organization_id == self.organization_id, Collection.session_id.is_(None)
        )
        if within is not None:
            query = query.where(one_of(Collection.id, within))
        if after is not None:
            query = query.where(tuple_(Collection.created_at, Collection.id) < after)
        query = query.order_by(Collection.created_at.desc(), Collection.id.desc())
        return (await self.session.scalars(query.limit(limit).offset(offset))).all()

    async def counts(self, collection_ids: Ids[str]) -> dict[str, Counts]:
        """Documents and chunks of each collection that has any."""
        rows = await self.session.execute(
            select(Document.collection_id, func.count(), func.sum(Document.chunk_count))
            .where(
                Document.organization_id == self.organization_id,
                one_of(Document.collection_id, collection_ids),
            )
            .group_by(Document.collection_id)
        )
        return {collection_id: Counts(documents, chunks) for collection_id, documents, chunks in rows}

    async def add(
        self,
        name: str,
        *,
        description: str = "",
        visibility: Visibility = Visibility.ORGANIZATION,
        chunking: Mapping[str, Any] | None = None,
    ) -> Collection:
        """A collection that the caller has made; `chunking` are its own settings."""
        collection: Collection = (
            await self.session.scalars(
                insert(Collection).returning(Collection),
                {
                    "id": ids.new(ids.Prefix.COLLECTION),
                    "organization_id": self.organization_id,
                    "name": name,
                    "description": description,
                    "visibility": visibility,
                    "created_by": self.principal.id,
                    **(chunking or {}),
                },
            )
        ).one()
        return collection

    async def change(self, collection_id: str, values: Mapping[str, Any]) -> Collection | None:
        """Set columns; None when the collection is gone."""
        changed: Collection | None = await self.session.scalar(
            update(Collection)
            .where(Collection.organization_id == self.organization_id, Collection.id == collection_id)
            .values(updated_at=func.now(), **values)
            .returning(Collection)
        )
        return changed

    async def delete(self, collection_id: str) -> bool:
        """Delete with the list and the documents, whose foreign keys cascade; False when there is no such collection."""
        deleted = await self.session.scalar(
            delete(Collection)
            .where(Collection.organization_id == self.organization_id, Collection.id == collection_id)
            .returning(Collection.id)
        )
        return deleted is not None


class AccessListRepository(Repository):
    async def users(self, collection_id: str, *, limit: int, offset: int) -> Sequence[CollectionUser]:
        """A page of a collection's list, newest first."""
        return (
            await self.session.scalars(
                select(CollectionUser)
                .where(
                    CollectionUser.organization_id == self.organization_id,
                    CollectionUser.collection_id == collection_id,
                )
                .order_by(CollectionUser.created_at.desc(), CollectionUser.user_id.desc())
                .limit(limit)
                .offset(offset)
            )
        ).all()

    async def grant(self, collection_id: str, permissions: Mapping[str, Permission]) -> None:
        """Put users on the list, or change what they may do there.

        Raises UserNotFound for one who is not of the organization.
        """
        rows = [
            {
                "collection_id": collection_id,
                "user_id": user_id,
                "organization_id": self.organization_id,
                "permission": permission,
            }
            for user_id, permission in sorted(permissions.items())
        ]
        statement = postgresql.insert(CollectionUser).values(rows)
        with known_users():
            await self.session.execute(
                statement.on_conflict_do_update(
                    index_elements=["collection_id", "user_id"],
                    set_={"permission": statement.excluded.permission},
                    where=CollectionUser.permission != statement.excluded.permission,
                )
            )

    async def revoke(self, collection_id: str, user_id: str) -> bool:
        """Take a user off the list; False when not on it."""
        revoked = await self.session.scalar(
            delete(CollectionUser)
            .where(
                CollectionUser.organization_id == self.organization_id,
                CollectionUser.collection_id == collection_id,
                CollectionUser.user_id == user_id,
            )
            .returning(CollectionUser.user_id)
        )
        return revoked is not None

    async def revoke_others(self, collection_id: str, *, keep: Ids[str]) -> None:
        """Take everybody off the list but those to `keep`."""
        await self.session.execute(
            delete(CollectionUser).where(
                CollectionUser.organization_id == self.organization_id,
                CollectionUser.collection_id == collection_id,
                ~one_of(CollectionUser.user_id, keep),
            )
        )
