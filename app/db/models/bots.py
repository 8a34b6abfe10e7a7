"""Bots, their versions, the collections that they answer from and who may use them."""

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    true,
)
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column

from app.core.access import Visibility
from app.db.models.base import Base, CreatedAt, Id, UpdatedAt


class Bot(Base):
    """A configured assistant: its name, and who may use it. What it answers with is in its versions."""

    __tablename__ = "bots"

    id: Mapped[Id]
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    visibility: Mapped[str] = mapped_column(server_default=Visibility.ORGANIZATION)
    all_collections: Mapped[bool] = mapped_column(server_default=true())
    """Whether it answers from what the caller may see; otherwise from its own collections, be there none left."""
    version: Mapped[int] = mapped_column(server_default=sql("1"))
    """The number of the version that answers: always the newest."""
    revision: Mapped[int] = mapped_column(server_default=sql("1"))
    """Goes up with every change of the bot."""
    created_by: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        Index("uq_bots_name", "organization_id", sql("lower(name)"), unique=True),
        Index("ix_bots_newest", "organization_id", sql("created_at DESC"), sql("id DESC")),
        CheckConstraint("visibility IN ('organization', 'restricted')", name="visibility"),
    )


class BotVersion(Base):
    """What a bot answered with from one change to the next. Never changed, but for its secrets' encryption."""

    __tablename__ = "bot_versions"

    id: Mapped[Id]
    organization_id: Mapped[str]
    bot_id: Mapped[str]
    number: Mapped[int]
    settings: Mapped[dict[str, Any]]
    secrets: Mapped[dict[str, Any]] = mapped_column(server_default=sql("'{}'"))
    """By the place where it is used, `model` or `reranker`: the encrypted key and its last characters."""
    note: Mapped[str] = mapped_column(server_default="")
    created_by: Mapped[str | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "bot_id"], ["bots.organization_id", "bots.id"], ondelete="CASCADE"
        ),
        UniqueConstraint("organization_id", "bot_id", "number"),
    )


class BotCollection(Base):
    """A collection that a bot answers from."""

    __tablename__ = "bot_collections"

    bot_id: Mapped[Id]
    collection_id: Mapped[Id]
    organization_id: Mapped[str]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "bot_id"], ["bots.organization_id", "bots.id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(
            ["organization_id", "collection_id"],
            ["collections.organization_id", "collections.id"],
            ondelete="CASCADE",
        ),
        Index("ix_bot_collections_collection", "organization_id", "collection_id"),
    )


class BotUser(Base):
    """A user who may use a restricted bot."""

    __tablename__ = "bot_users"

    bot_id: Mapped[Id]
    user_id: Mapped[Id]
    organization_id: Mapped[str]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "bot_id"], ["bots.organization_id", "bots.id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(
            ["organization_id", "user_id"], ["users.organization_id", "users.id"], ondelete="CASCADE"
        ),
        Index("ix_bot_users_user", "organization_id", "user_id"),
    )
