"""The audit log, which only grows. Nothing refers to what it tells of: it outlives that."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, Id


class AuditEntry(Base):
    """One act. `organization_id` None is the service as a whole; `before` and `after` are the changed fields."""

    __tablename__ = "audit_log"

    id: Mapped[Id]
    occurred_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    organization_id: Mapped[str | None]
    actor_kind: Mapped[str]
    actor_id: Mapped[str | None]
    actor_name: Mapped[str]
    action: Mapped[str]
    object_type: Mapped[str]
    object_id: Mapped[str | None]
    object_name: Mapped[str | None]
    address: Mapped[str | None]
    request_id: Mapped[str | None]
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    after: Mapped[dict[str, Any] | None] = mapped_column(JSONB)

    __table_args__ = (
        Index("ix_audit_log_newest", "organization_id", text("occurred_at DESC"), text("id DESC")),
        Index("ix_audit_log_newest_of_all", text("occurred_at DESC"), text("id DESC")),
        Index("ix_audit_log_object", "object_id", text("occurred_at DESC")),
        Index("ix_audit_log_actor", "actor_id", text("occurred_at DESC")),
        CheckConstraint(
            "actor_kind IN ('user', 'api_key', 'operator', 'system', 'anonymous')", name="actor_kind"
        ),
    )
