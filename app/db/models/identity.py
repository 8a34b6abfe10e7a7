"""Organizations, their users and their API keys."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, Index, Text, UniqueConstraint, text, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, CreatedAt, Id


class Organization(Base):
    __tablename__ = "organizations"

    id: Mapped[Id]
    name: Mapped[str]
    created_at: Mapped[CreatedAt]


class User(Base):
    __tablename__ = "users"

    id: Mapped[Id]
    organization_id: Mapped[str] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), index=True
    )
    email: Mapped[str]
    password_hash: Mapped[str]
    role: Mapped[str]
    is_active: Mapped[bool] = mapped_column(server_default=true())
    created_at: Mapped[CreatedAt]
    name: Mapped[str] = mapped_column(server_default="")
    password_changed_at: Mapped[datetime | None]
    totp_secret: Mapped[str | None]
    totp_enabled_at: Mapped[datetime | None]
    totp_last_step: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (
        Index("uq_users_email", text("lower(email)"), unique=True),
        UniqueConstraint("organization_id", "id"),
    )

    @property
    def totp_enabled(self) -> bool:
        return self.totp_enabled_at is not None


class ApiKey(Base):
    __tablename__ = "api_keys"

    id: Mapped[Id]
    organization_id: Mapped[str] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str]
    public_part: Mapped[str] = mapped_column(unique=True)
    secret_hash: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_by: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    collection_ids: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    last_used_at: Mapped[datetime | None]
    rate_limit: Mapped[str | None]
    bot_id: Mapped[str | None]

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "bot_id"], ["bots.organization_id", "bots.id"], ondelete="CASCADE"
        ),
        Index("ix_api_keys_bot", "organization_id", "bot_id", postgresql_where=text("bot_id IS NOT NULL")),
    )

    @property
    def prefix(self) -> str:
        """How the key begins."""
        return f"ibid_{self.public_part}"
