"""Logins and the refresh tokens that descend from them. Used by the system principal only."""

from datetime import datetime
from typing import Final

from sqlalchemy import delete, exists, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import clock, ids
from app.db.models import Invitation, Login, PasswordReset, RefreshToken, User

_KNOWN_ADDRESS: Final = text(
    "SELECT EXISTS (SELECT FROM logins l JOIN users u ON u.id = l.user_id"
    " WHERE lower(u.email) = :email AND l.address = :address)"
)


class LoginRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def add(self, user: User, *, address: str) -> str:
        """A new login; returns its id."""
        login_id = ids.new(ids.Prefix.LOGIN)
        await self.session.execute(
            insert(Login).values(
                id=login_id, organization_id=user.organization_id, user_id=user.id, address=address
            )
        )
        return login_id

    async def add_token(
        self, *, login_id: str, organization_id: str, token_hash: str, expires_at: datetime
    ) -> None:
        await self.session.execute(
            insert(RefreshToken).values(
                token_hash=token_hash,
                organization_id=organization_id,
                login_id=login_id,
                expires_at=expires_at,
            )
        )

    async def lock_by_token(self, token_hash: str) -> Login | None:
        """The login that a refresh token belongs to; whoever else refreshes it waits until this transaction ends."""
        login_id = select(RefreshToken.login_id).where(RefreshToken.token_hash == token_hash)
        result: Login | None = await self.session.scalar(
            select(Login).where(Login.id == login_id.scalar_subquery()).with_for_update(key_share=True)
        )
        return result

    async def use_token(self, token_hash: str) -> datetime | None:
        """Use up a refresh token and tell when it expires; None when it was used before."""
        result: datetime | None = await self.session.scalar(
            update(RefreshToken)
            .where(RefreshToken.token_hash == token_hash, RefreshToken.used_at.is_(None))
            .values(used_at=clock.now())
            .returning(RefreshToken.expires_at)
        )
        return result

    async def end(self, login_id: str) -> None:
        await self.session.execute(
            update(Login).where(Login.id == login_id, Login.ended_at.is_(None)).values(ended_at=clock.now())
        )

    async def end_all(self, user_id: str, *, keep: str | None = None) -> None:
        """End a user's logins, but the one to `keep`."""
        ending = update(Login).where(Login.user_id == user_id, Login.ended_at.is_(None))
        if keep is not None:
            ending = ending.where(Login.id != keep)
        await self.session.execute(ending.values(ended_at=clock.now()))

    async def is_known_address(self, email: str, address: str) -> bool:
        """Whether the account of this lower-case e-mail address was logged in from there lately."""
        known = await self.session.scalar(_KNOWN_ADDRESS, {"email": email, "address": address})
        return bool(known)

    async def purge(self) -> None:
        """Remove what has expired."""
        now = func.now()
        await self.session.execute(delete(RefreshToken).where(RefreshToken.expires_at < now))
        await self.session.execute(delete(Login).where(~exists().where(RefreshToken.login_id == Login.id)))
        await self.session.execute(delete(PasswordReset).where(PasswordReset.expires_at < now))
        await self.session.execute(
            delete(Invitation).where(Invitation.expires_at < now, Invitation.accepted_at.is_(None))
        )
