"""The API keys of the caller's organization. Used in transactions of the system principal."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, insert, select, tuple_, update

from app.core import ids
from app.core.principal import Scope
from app.db.models import ApiKey
from app.db.repositories.base import Repository


class ApiKeyRepository(Repository):
    async def find(self, key_id: str) -> ApiKey | None:
        result: ApiKey | None = await self.session.scalar(
            select(ApiKey).where(ApiKey.organization_id == self.organization_id, ApiKey.id == key_id)
        )
        return result

    async def newest(
        self, *, limit: int, after: tuple[datetime, str] | None, offset: int
    ) -> Sequence[ApiKey]:
        """A page of keys, revoked and expired ones too, newest first."""
        query = select(ApiKey).where(ApiKey.organization_id == self.organization_id)
        if after is not None:
            query = query.where(tuple_(ApiKey.created_at, ApiKey.id) < after)
        query = query.order_by(ApiKey.created_at.desc(), ApiKey.id.desc()).limit(limit).offset(offset)
        return (await self.session.scalars(query)).all()

    async def add(
        self,
        *,
        name: str,
        public_part: str,
        secret_hash: str,
        scopes: frozenset[Scope],
        collection_ids: frozenset[str] | None,
        expires_at: datetime | None,
        created_by: str | None,
        rate_limit: str | None = None,
        bot_id: str | None = None,
    ) -> ApiKey:
        result = await self.session.scalars(
            insert(ApiKey)
            .values(
                id=ids.new(ids.Prefix.API_KEY),
                organization_id=self.organization_id,
                name=name,
                public_part=public_part,
                secret_hash=secret_hash,
                scopes=sorted(scopes),
                collection_ids=None if collection_ids is None else sorted(collection_ids),
                expires_at=expires_at,
                created_by=created_by,
                rate_limit=rate_limit,
                bot_id=bot_id,
            )
            .returning(ApiKey)
        )
        return result.one()

    async def revoke_made_by(self, user_id: str) -> None:
        """Revoke the keys that a user made, in whatever organization, and those that were made with these keys."""
        await self.session.execute(
            update(ApiKey)
            .where(ApiKey.created_by == user_id, ApiKey.revoked_at.is_(None))
            .values(revoked_at=func.now())
        )

    async def revoke(self, key_id: str) -> bool:
        """Revoke a key; the first moment of revocation stays. False when there is no such key."""
        revoked = await self.session.scalar(
            update(ApiKey)
            .where(ApiKey.organization_id == self.organization_id, ApiKey.id == key_id)
            .values(revoked_at=func.coalesce(ApiKey.revoked_at, func.now()))
            .returning(ApiKey.id)
        )
        return revoked is not None
