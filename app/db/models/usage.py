"""The ledger of model calls, budgets, and what is taken from them."""

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Numeric,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, CreatedAt, Id, UpdatedAt


class UsageEvent(Base):
    """One call of a model. Nothing refers to what it tells of but the organization: the ledger outlives the rest."""

    __tablename__ = "usage_events"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    caller_kind: Mapped[str]
    caller_id: Mapped[str]
    bot_id: Mapped[str | None]
    session_id: Mapped[str | None]
    message_id: Mapped[str | None]
    purpose: Mapped[str]
    model: Mapped[str]
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_usd: Mapped[Decimal | None] = mapped_column(Numeric)
    estimated: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        Index("ix_usage_events_newest", "organization_id", "created_at"),
        Index("ix_usage_events_caller", "organization_id", "caller_id", "created_at"),
    )


class Budget(Base):
    """A limit of a day or a month. Without `subject_id` it is each one's own (of the organization: the whole)."""

    __tablename__ = "budgets"

    id: Mapped[Id]
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    subject: Mapped[str]
    subject_id: Mapped[str | None]
    period: Mapped[str]
    max_tokens: Mapped[int | None] = mapped_column(BigInteger)
    max_cost_usd: Mapped[Decimal | None] = mapped_column(Numeric)
    ceiling: Mapped[bool] = mapped_column(server_default=text("false"))
    """Set by the operators for the organization, whose admins can't change it."""
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        UniqueConstraint(
            "organization_id",
            "subject",
            "subject_id",
            "period",
            "ceiling",
            name="uq_budgets_subject",
            postgresql_nulls_not_distinct=True,
        ),
        CheckConstraint("subject IN ('organization', 'bot', 'user', 'key')", name="subject"),
        CheckConstraint("period IN ('day', 'month')", name="period"),
        CheckConstraint("max_tokens IS NOT NULL OR max_cost_usd IS NOT NULL", name="limits"),
    )


class BudgetSpending(Base):
    """What one subject has spent of a budget since `period_start`, and what its answers under way have reserved."""

    __tablename__ = "budget_spending"

    budget_id: Mapped[str] = mapped_column(ForeignKey("budgets.id", ondelete="CASCADE"), primary_key=True)
    subject_id: Mapped[str] = mapped_column(Text, primary_key=True)
    organization_id: Mapped[str] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), index=True
    )
    period_start: Mapped[date]
    spent_tokens: Mapped[int] = mapped_column(BigInteger)
    spent_usd: Mapped[Decimal] = mapped_column(Numeric)
    reserved_tokens: Mapped[int] = mapped_column(BigInteger)
    reserved_usd: Mapped[Decimal] = mapped_column(Numeric)


class BudgetReservation(Base):
    """What one turn (`id`) holds of a budget until it settles, or until `expires_at` when its process died."""

    __tablename__ = "budget_reservations"

    id: Mapped[Id]
    budget_id: Mapped[str] = mapped_column(
        ForeignKey("budgets.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    subject_id: Mapped[str] = mapped_column(Text, primary_key=True)
    organization_id: Mapped[str] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), index=True
    )
    tokens: Mapped[int] = mapped_column(BigInteger)
    usd: Mapped[Decimal] = mapped_column(Numeric)
    expires_at: Mapped[datetime] = mapped_column(index=True)
