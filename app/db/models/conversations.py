"""Sessions and their messages."""

from datetime import datetime
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


class TitleSource(StrEnum):
    """What a session is called after. What a person has chosen stays."""

    QUESTION = "question"
    FILE = "file"
    MODEL = "model"
    PERSON = "person"


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
    title_source: Mapped[str] = mapped_column(server_default=TitleSource.QUESTION)
    pinned: Mapped[bool] = mapped_column(server_default=text("false"))
    summary: Mapped[str | None]
    """What was said up to the message at the position `summary_through`."""
    summary_through: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
    """When it was last asked something."""

    __table_args__ = (
        Index(
            "ix_sessions_owner",
            "organization_id",
            "owner_id",
            text("pinned DESC"),
            text("updated_at DESC"),
            text("id DESC"),
        ),
        CheckConstraint("title_source IN ('question', 'file', 'model', 'person')", name="title_source"),
        CheckConstraint("num_nulls(summary, summary_through) IN (0, 2)", name="summary"),
    )


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
    bot_version_id: Mapped[str | None]
    """What gave this answer; None is the environment's bot. Not a foreign key: the answer outlives it."""
    feedback: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    parent_id: Mapped[str | None]
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    fallback: Mapped[str | None]
    degraded: Mapped[str | None]
    """Why its passages were found by words alone: the code of the embedding provider's failure."""
    pending_documents: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    """Files of the session that were still being read, so that it is without them."""
    guardrails: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
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
        CheckConstraint(
            "status IN ('streaming', 'complete', 'stopped', 'interrupted', 'failed')", name="status"
        ),
    )


class SessionShare(Base):
    """A conversation as it was when its owner made a link to it."""

    __tablename__ = "session_shares"

    id: Mapped[Id]
    organization_id: Mapped[str]
    session_id: Mapped[str]
    token_hash: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]
    messages: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    expires_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "session_id"], ["sessions.organization_id", "sessions.id"], ondelete="CASCADE"
        ),
        Index(
            "ix_session_shares_session",
            "organization_id",
            "session_id",
            text("created_at DESC"),
            text("id DESC"),
        ),
        Index(
            "ix_session_shares_expires_at",
            "expires_at",
            postgresql_where=text("expires_at IS NOT NULL"),
        ),
    )
