"""Question sets of an organization and the evaluations that were run on them."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    REAL,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    false,
    func,
)
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, CreatedAt, Id


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class EvaluationSet(Base):
    """Questions with what is right, as they were sent."""

    __tablename__ = "evaluation_sets"

    id: Mapped[Id]
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    name: Mapped[str]
    questions: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    question_count: Mapped[int]
    created_by: Mapped[str | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        UniqueConstraint("organization_id", "name"),
    )


class EvaluationRun(Base):
    """One evaluation: asked for, claimed by a worker until `available_at`, and what came of it."""

    __tablename__ = "evaluation_runs"

    id: Mapped[Id]
    organization_id: Mapped[str]
    set_id: Mapped[str]
    name: Mapped[str]
    """Of the set."""
    bot_id: Mapped[str]
    with_answers: Mapped[bool] = mapped_column(server_default=false())
    baseline_id: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default=RunStatus.QUEUED)
    progress: Mapped[float] = mapped_column(REAL, server_default=sql("0"))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    summary: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    claimed_by: Mapped[str | None]
    available_at: Mapped[datetime] = mapped_column(server_default=func.now())
    attempts: Mapped[int] = mapped_column(server_default=sql("0"))
    created_by: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "set_id"],
            ["evaluation_sets.organization_id", "evaluation_sets.id"],
            ondelete="CASCADE",
        ),
        Index("ix_evaluation_runs_newest", "organization_id", sql("created_at DESC"), sql("id DESC")),
        Index("ix_evaluation_runs_set", "organization_id", "set_id"),
        Index(
            "ix_evaluation_runs_waiting",
            "available_at",
            postgresql_where=sql("status IN ('queued', 'running')"),
        ),
        CheckConstraint("status IN ('queued', 'running', 'completed', 'failed')", name="status"),
    )
