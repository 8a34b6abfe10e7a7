"""Organizations, as a superadmin sees them. Used in transactions of the system principal."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, exists, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.principal import Role
from app.db.models import Organization, User


class OrganizationRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def find(self, organization_id: str) -> Organization | None:
        result: Organization | None = await self.session.scalar(
            select(Organization).where(Organization.id == organization_id)
        )
        return result

    async def newest(
        self, *, limit: int, after: tuple[datetime, str] | None, offset: int
    ) -> Sequence[Organization]:
        """A page of all organizations, newest first."""
        query = select(Organization)
        if after is not None:
            query = query.where(tuple_(Organization.created_at, Organization.id) < after)
        query = query.order_by(Organization.created_at.desc(), Organization.id.desc())
        return (await self.session.scalars(query.limit(limit).offset(offset))).all()

    async def rename(self, organization_id: str, name: str) -> Organization | None:
        result: Organization | None = await self.session.scalar(
            update(Organization)
            .where(Organization.id == organization_id)
            .values(name=name)
            .returning(Organization)
        )
        return result

    async def has_superadmins(self, organization_id: str) -> bool:
        found = await self.session.scalar(
            select(exists().where(User.organization_id == organization_id, User.role == Role.SUPERADMIN))
        )
        return bool(found)

    async def delete(self, organization_id: str) -> None:
        """Delete with everything that it owns, whose foreign keys cascade."""
        await self.session.execute(delete(Organization).where(Organization.id == organization_id))
