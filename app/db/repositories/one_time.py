"""One-time tokens: invitations, password resets and tickets of WebSocket connections. Used in transactions of the system principal."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import clock, ids
from app.core.principal import Role
from app.db.models import Invitation, PasswordReset, SocketTicket
from app.db.repositories.base import Repository


async def accept_invitation(session: AsyncSession, token_hash: str) -> Invitation | None:
    """Use up an invitation; None when it is unknown, expired or accepted already."""
    result: Invitation | None = await session.scalar(
        update(Invitation)
        .where(
            Invitation.token_hash == token_hash,
            Invitation.accepted_at.is_(None),
            Invitation.expires_at > func.now(),
        )
        .values(accepted_at=clock.now())
        .returning(Invitation)
    )
    return result


async def use_password_reset(session: AsyncSession, token_hash: str) -> str | None:
    """Use up a password reset, and tell whose it is; None when it is unknown, expired or used already."""
    user_id: str | None = await session.scalar(
        update(PasswordReset)
        .where(
            PasswordReset.token_hash == token_hash,
            PasswordReset.used_at.is_(None),
            PasswordReset.expires_at > func.now(),
        )
        .values(used_at=clock.now())
        .returning(PasswordReset.user_id)
    )
    return user_id


async def forget_password_resets(session: AsyncSession, user_id: str) -> None:
    """Links that were made for a user and not used yet work no more."""
    await session.execute(
        delete(PasswordReset).where(PasswordReset.user_id == user_id, PasswordReset.used_at.is_(None))
    )


async def add_socket_ticket(
    session: AsyncSession,
    *,
    organization_id: str,
    token_hash: str,
    credential_encrypted: str,
    expires_at: datetime,
) -> None:
    await session.execute(
        insert(SocketTicket).values(
            token_hash=token_hash,
            organization_id=organization_id,
            credential_encrypted=credential_encrypted,
            expires_at=expires_at,
        )
    )


async def use_socket_ticket(session: AsyncSession, token_hash: str) -> str | None:
    """Use up a ticket, and give the credential that it stands for; None when it is unknown, expired or used already."""
    credential: str | None = await session.scalar(
        delete(SocketTicket)
        .where(SocketTicket.token_hash == token_hash, SocketTicket.expires_at > func.now())
        .returning(SocketTicket.credential_encrypted)
    )
    return credential


async def forget_socket_tickets(session: AsyncSession) -> None:
    """Those that have expired."""
    await session.execute(delete(SocketTicket).where(SocketTicket.expires_at <= func.now()))


class OneTimeRepository(Repository):
    async def add_password_reset(self, *, user_id: str, token_hash: str, expires_at: datetime) -> None:
        await self.session.execute(
            insert(PasswordReset).values(
                token_hash=token_hash,
                organization_id=self.organization_id,
                user_id=user_id,
                created_by=self.principal.id,
                expires_at=expires_at,
            )
        )

    async def add_invitation(
        self, *, email: str, role: Role, token_hash: str, expires_at: datetime
    ) -> Invitation:
        result = await self.session.scalars(
            insert(Invitation)
            .values(
                id=ids.new(ids.Prefix.INVITATION),
                organization_id=self.organization_id,
                email=email,
                role=role,
                token_hash=token_hash,
                invited_by=self.principal.id,
                expires_at=expires_at,
            )
            .returning(Invitation)
        )
        return result.one()

    async def newest_invitations(
        self, *, limit: int, after: tuple[datetime, str] | None, offset: int
    ) -> Sequence[Invitation]:
        """A page of invitations, newest first."""
        query = select(Invitation).where(Invitation.organization_id == self.organization_id)
        if after is not None:
            query = query.where(tuple_(Invitation.created_at, Invitation.id) < after)
        query = query.order_by(Invitation.created_at.desc(), Invitation.id.desc()).limit(limit).offset(offset)
        return (await self.session.scalars(query)).all()

    async def delete_invitation(self, invitation_id: str) -> bool:
        """Withdraw an invitation; False when there is no such one."""
        deleted = await self.session.scalar(
            delete(Invitation)
            .where(Invitation.organization_id == self.organization_id, Invitation.id == invitation_id)
            .returning(Invitation.id)
        )
        return deleted is not None

    async def withdraw_made_by(self, user_id: str) -> None:
        """Who is no admin any more leaves no open doors behind."""
        await self.session.execute(
            delete(Invitation).where(Invitation.invited_by == user_id, Invitation.accepted_at.is_(None))
        )
        await self.session.execute(
            delete(PasswordReset).where(PasswordReset.created_by == user_id, PasswordReset.used_at.is_(None))
        )
