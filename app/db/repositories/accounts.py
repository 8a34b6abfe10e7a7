"""A user's own account: password, second factor, recovery codes. Used by the system principal only."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import clock, ids
from app.core.principal import Role
from app.db.models import RecoveryCode, User


class AccountRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def add(
        self, *, organization_id: str, email: str, name: str, password_hash: str, role: Role
    ) -> User | None:
        """A new account; None when somebody has this e-mail address."""
        user: User | None = await self.session.scalar(
            postgresql.insert(User)
            .values(
                id=ids.new(ids.Prefix.USER),
                organization_id=organization_id,
                email=email,
                name=name,
                password_hash=password_hash,
                role=role,
            )
            .on_conflict_do_nothing()
            .returning(User)
        )
        return user

    async def find_by_email(self, email: str) -> User | None:
        """The account of a lower-case e-mail address."""
        result: User | None = await self.session.scalar(select(User).where(func.lower(User.email) == email))
        return result

    async def find(self, user_id: str) -> User | None:
        result: User | None = await self.session.scalar(select(User).where(User.id == user_id))
        return result

    async def lock(self, user_id: str) -> User | None:
        """The account as it is now, and as it stays until this transaction ends."""
        result: User | None = await self.session.scalar(
            select(User)
            .where(User.id == user_id)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )
        return result

    async def set_name(self, user_id: str, name: str) -> User:
        result = await self.session.scalars(
            update(User).where(User.id == user_id).values(name=name).returning(User)
        )
        return result.one()

    async def set_password(self, user_id: str, password_hash: str) -> None:
        await self.session.execute(
            update(User)
            .where(User.id == user_id)
            .values(password_hash=password_hash, password_changed_at=clock.now())
        )

    async def enrol(self, user_id: str, encrypted_secret: str) -> bool:
        """Store a secret that is yet to be confirmed; False when a second factor is on already."""
        stored = await self.session.scalar(
            update(User)
            .where(User.id == user_id, User.totp_enabled_at.is_(None))
            .values(totp_secret=encrypted_secret, totp_last_step=None)
            .returning(User.id)
        )
        return stored is not None

    async def enable_totp(self, user_id: str, *, moment: datetime) -> None:
        await self.session.execute(update(User).where(User.id == user_id).values(totp_enabled_at=moment))

    async def disable_totp(self, user_id: str) -> None:
        """No second factor, no recovery codes."""
        await self.session.execute(
            update(User)
            .where(User.id == user_id)
            .values(totp_secret=None, totp_enabled_at=None, totp_last_step=None)
        )
        await self.session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))

    async def use_step(self, user_id: str, step: int) -> bool:
        """Use up a time step and all before it; False when it was used already: one code, one success."""
        used = await self.session.scalar(
            update(User)
            .where(User.id == user_id, or_(User.totp_last_step.is_(None), User.totp_last_step < step))
            .values(totp_last_step=step)
            .returning(User.id)
        )
        return used is not None

    async def use_recovery_code(self, user_id: str, code_hash: str) -> bool:
        """Use up a recovery code; False when there is none like it left."""
        used = await self.session.scalar(
            update(RecoveryCode)
            .where(
                RecoveryCode.user_id == user_id,
                RecoveryCode.code_hash == code_hash,
                RecoveryCode.used_at.is_(None),
            )
            .values(used_at=clock.now())
            .returning(RecoveryCode.user_id)
        )
        return used is not None

    async def replace_recovery_codes(self, user: User, code_hashes: Collection[str]) -> None:
        await self.session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
        await self.session.execute(
            insert(RecoveryCode),
            [
                {"user_id": user.id, "code_hash": code_hash, "organization_id": user.organization_id}
                for code_hash in code_hashes
            ],
        )

    async def count_recovery_codes(self, user_id: str) -> int:
        """How many are left."""
        count: int | None = await self.session.scalar(
            select(func.count()).where(RecoveryCode.user_id == user_id, RecoveryCode.used_at.is_(None))
        )
        return count or 0

    async def encrypted_secrets(self) -> Sequence[tuple[str, str]]:
        """Every user's id and encrypted second factor."""
        rows = await self.session.execute(
            select(User.id, User.totp_secret).where(User.totp_secret.is_not(None)).order_by(User.id)
        )
        return [(user_id, secret) for user_id, secret in rows if secret is not None]

    async def replace_secret(self, user_id: str, *, old: str, new: str) -> bool:
        """Swap an encrypted second factor; False when it has changed meanwhile."""
        replaced = await self.session.scalar(
            update(User)
            .where(User.id == user_id, User.totp_secret == old)
            .values(totp_secret=new)
            .returning(User.id)
        )
        return replaced is not None
