"""Organizations, their users and their API keys."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, Text, UniqueConstraint, text, true
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

    __table_args__ = (
        Index("uq_users_email", text("lower(email)"), unique=True),
        UniqueConstraint("organization_id", "id"),
    )


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
