"""Sessions and their messages."""

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, CreatedAt, Id, UpdatedAt


class MessageStatus(StrEnum):
    STREAMING = "streaming"
    COMPLETE = "complete"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class Session(Base):
    """A conversation. Its id may be the client's own, so it is unique within the organization only."""

    __tablename__ = "sessions"

    organization_id: Mapped[str] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    owner_id: Mapped[str]
    title: Mapped[str]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (Index("ix_sessions_owner", "organization_id", "owner_id", text("updated_at DESC")),)


class Message(Base):
    """One message. `parent_id` None follows the active one before it, which all do until a session first branches; ''
    follows nothing. `active` are those of the branch that is shown and gone on with.
    """

    __tablename__ = "messages"

    id: Mapped[Id]
    organization_id: Mapped[str]
    session_id: Mapped[str]
    position: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    role: Mapped[str]
    content: Mapped[str]
    status: Mapped[str]
    sources: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    usage: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    model: Mapped[str | None]
    refused: Mapped[bool] = mapped_column(server_default=text("false"))
    finish_reason: Mapped[str | None]
    latency_ms: Mapped[int | None]
    parent_id: Mapped[str | None]
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    fallback: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "session_id"], ["sessions.organization_id", "sessions.id"], ondelete="CASCADE"
        ),
        Index("ix_messages_session", "organization_id", "session_id", "position"),
        Index(
            "uq_messages_streaming",
            "organization_id",
            "session_id",
            unique=True,
            postgresql_where=text("status = 'streaming'"),
        ),
        CheckConstraint("role IN ('user', 'assistant', 'system')", name="role"),
        CheckConstraint(
            "status IN ('streaming', 'complete', 'stopped', 'interrupted', 'failed')", name="status"
        ),
    )
