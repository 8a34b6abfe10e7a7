"""The users of the caller's organization, as an admin sees them. Used in transactions of the system principal."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete, func, select, text, tuple_, update

from app.core.principal import Role
from app.db.models import Session, User
from app.db.repositories.base import Repository

_LOCK_ROLES: Final = text("SELECT pg_advisory_xact_lock(hashtext('ibid roles'))")


class UserRepository(Repository):
    async def lock_roles(self) -> None:
        """One change of roles at a time, until this transaction ends: what is counted then stays true."""
        await self.session.execute(_LOCK_ROLES)

    async def find(self, user_id: str) -> User | None:
        result: User | None = await self.session.scalar(
            select(User).where(User.organization_id == self.organization_id, User.id == user_id)
        )
        return result

    async def newest(
        self, *, limit: int, after: tuple[datetime, str] | None, offset: int, email: str | None
    ) -> Sequence[User]:
        """A page of users, newest first; `email` is part of the address, in any case."""
        query = select(User).where(User.organization_id == self.organization_id)
        if email is not None:
            query = query.where(User.email.icontains(email, autoescape=True))
        if after is not None:
            query = query.where(tuple_(User.created_at, User.id) < after)
        query = query.order_by(User.created_at.desc(), User.id.desc()).limit(limit).offset(offset)
        return (await self.session.scalars(query)).all()

    async def update(self, user_id: str, values: Mapping[str, Any]) -> User:
        result = await self.session.scalars(
            update(User)
            .where(User.organization_id == self.organization_id, User.id == user_id)
            .values(**values)
            .returning(User)
        )
        return result.one()

    async def delete(self, user_id: str) -> None:
        """Delete a user with their logins and conversations."""
        await self.session.execute(
            delete(Session).where(
                Session.organization_id == self.organization_id, Session.owner_id == user_id
            )
        )
        await self.session.execute(
            delete(User).where(User.organization_id == self.organization_id, User.id == user_id)
        )

    async def actor_role(self) -> Role | None:
        """The role that the caller, a user, has at this moment; None when deactivated or deleted."""
        role = await self.session.scalar(
            select(User.role).where(User.id == self.principal.id, User.is_active)
        )
        return Role(role) if role else None

    async def count_other_admins(self, user_id: str) -> int:
        """Active admins and superadmins of the organization besides this user."""
        return await self._count_others(
            user_id,
            User.organization_id == self.organization_id,
            User.role.in_((Role.ADMIN, Role.SUPERADMIN)),
        )

    async def count_other_superadmins(self, user_id: str) -> int:
        """Active superadmins anywhere besides this user."""
        return await self._count_others(user_id, User.role == Role.SUPERADMIN)

    async def _count_others(self, user_id: str, *conditions: Any) -> int:
        count: int | None = await self.session.scalar(
            select(func.count()).where(User.id != user_id, User.is_active, *conditions)
        )
        return count or 0
