"""The index built anew beside the one that is served: what is wanted, how far it is, who is at work on which document."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, CreatedAt, Id


class RebuildState(StrEnum):
    """`switched`: the new build is served, and the old one is being removed; `cancelling`: the other way around."""

    RUNNING = "running"
    SWITCHED = "switched"
    COMPLETED = "completed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"


class IndexRebuild(Base):
    """A rebuild of the whole index, or (with an organization) of one organization's chunks. Ended once `ended_at` is set."""

    __tablename__ = "index_rebuilds"

    id: Mapped[Id]
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    organization_id: Mapped[str | None] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    state: Mapped[str]
    embedding_model: Mapped[str]
    dimension: Mapped[int]
    requested_dimension: Mapped[int | None]
    chunk_size_tokens: Mapped[int | None]
    chunk_overlap_tokens: Mapped[int | None]
    splitter: Mapped[str | None]
    previous_build: Mapped[str | None]
    documents_total: Mapped[int] = mapped_column(server_default=sql("0"))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    started_by: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    began_at: Mapped[datetime | None]
    switched_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(
            "state IN ('running', 'switched', 'completed', 'cancelling', 'cancelled', 'failed')", name="state"
        ),
        Index(
            "uq_index_rebuilds_active",
            sql("coalesce(organization_id, '')"),
            unique=True,
            postgresql_where=sql("ended_at IS NULL"),
        ),
    )


class RebuildClaim(Base):
    """A document that a worker builds, or that is to be tried again, until `available_at`."""

    __tablename__ = "rebuild_claims"

    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True)
    organization_id: Mapped[str]
    claimed_by: Mapped[str]
    available_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(server_default=sql("1"))
