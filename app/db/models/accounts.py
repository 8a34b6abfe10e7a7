"""What leads to an account: logins and their refresh tokens, recovery codes, invitations, resets, counted guesses."""

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, CreatedAt, Id


class Login(Base):
    """One login of a user: the family of refresh tokens that descend from it."""

    __tablename__ = "logins"

    id: Mapped[Id]
    organization_id: Mapped[str] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), index=True
    )
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    address: Mapped[str]
    created_at: Mapped[CreatedAt]
    ended_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_logins_user_id", "user_id", "created_at"),)


class RefreshToken(Base):
    __tablename__ = "refresh_tokens"

    token_hash: Mapped[Id]
    organization_id: Mapped[str] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), index=True
    )
    login_id: Mapped[str] = mapped_column(ForeignKey("logins.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class RecoveryCode(Base):
    __tablename__ = "recovery_codes"

    user_id: Mapped[Id] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    code_hash: Mapped[Id]
    organization_id: Mapped[str] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), index=True
    )
    used_at: Mapped[datetime | None]


class Invitation(Base):
    __tablename__ = "invitations"

    id: Mapped[Id]
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    email: Mapped[str]
    role: Mapped[str]
    token_hash: Mapped[str] = mapped_column(unique=True)
    invited_by: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    accepted_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_invitations_newest", "organization_id", text("created_at DESC"), text("id DESC")),
        CheckConstraint("role IN ('superadmin', 'admin', 'user')", name="role"),
    )


class PasswordReset(Base):
    __tablename__ = "password_resets"

    token_hash: Mapped[Id]
    organization_id: Mapped[str] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), index=True
    )
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_by: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class SocketTicket(Base):
    """What opens one WebSocket connection, once, as the caller whose credential this is."""

    __tablename__ = "socket_tickets"

    token_hash: Mapped[Id]
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    credential_encrypted: Mapped[str]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Guesses(Base):
    """When somebody last guessed at something; `subject` is a hash of what was guessed at, and from where."""

    __tablename__ = "guesses"

    subject: Mapped[Id]
    moments: Mapped[list[datetime]] = mapped_column(ARRAY(DateTime(timezone=True)))
