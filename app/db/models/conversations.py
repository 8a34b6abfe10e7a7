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
    bot_id: Mapped[str | None]
    """The bot that answered last; None is the environment's. Not a foreign key: the conversation outlives it."""
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (Index("ix_sessions_owner", "organization_id", "owner_id", text("updated_at DESC")),)


class Message(Base):
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
    bot_version_id: Mapped[str | None]
    """What gave this answer; None is the environment's bot. Not a foreign key: the answer outlives it."""
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
        Index(
            "ix_messages_bot_version",
            "organization_id",
            "bot_version_id",
            "created_at",
            postgresql_where=text("bot_version_id IS NOT NULL"),
        ),
        CheckConstraint("role IN ('user', 'assistant', 'system')", name="role"),
        CheckConstraint("status IN ('streaming', 'complete', 'interrupted', 'failed')", name="status"),
    )
