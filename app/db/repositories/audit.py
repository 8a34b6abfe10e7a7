"""The audit log: what is asked of it, and the entries that no change of a table makes by itself."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, or_, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.audit import Action, AuditFilter
from app.db.models import AuditEntry

_WRITE: Final = text("""
SELECT audit_write(CAST(:action AS text), CAST(:organization_id AS text), CAST(:object_type AS text),
                   CAST(:object_id AS text), NULL, NULL, CAST(:after AS jsonb))
""")


class AuditRepository:
    """In a caller's transaction the database shows the entries of one organization, in the system's all."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def add(
        self,
        action: Action,
        *,
        organization_id: str | None,
        object_type: str,
        object_id: str | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """An entry of this transaction, which must be the system's, whoever it acts for."""
        await self.session.execute(
            _WRITE,
            {
                "action": action,
                "organization_id": organization_id,
                "object_type": object_type,
                "object_id": object_id,
                "after": None if after is None else json.dumps(after),
            },
        )

    async def newest(
        self, where: AuditFilter, *, limit: int, after: tuple[datetime, str] | None, offset: int = 0
    ) -> Sequence[AuditEntry]:
        """A page of entries, newest first."""
        query = _filtered(select(AuditEntry), where)
        if after is not None:
            query = query.where(tuple_(AuditEntry.occurred_at, AuditEntry.id) < after)
        query = query.order_by(AuditEntry.occurred_at.desc(), AuditEntry.id.desc())
        return (await self.session.scalars(query.limit(limit).offset(offset))).all()


def _filtered(query: Select[AuditEntry], where: AuditFilter) -> Select[AuditEntry]:
    if where.organization_id is not None:
        query = query.where(AuditEntry.organization_id == where.organization_id)
    if where.actor is not None:
        query = query.where(or_(AuditEntry.actor_id == where.actor, AuditEntry.actor_name == where.actor))
    if where.actions:
        query = query.where(AuditEntry.action.in_(sorted(where.actions)))
    if where.object_type is not None:
        query = query.where(AuditEntry.object_type == where.object_type)
    if where.object_id is not None:
        query = query.where(AuditEntry.object_id == where.object_id)
    if where.since is not None:
        query = query.where(AuditEntry.occurred_at >= where.since)
    if where.to is not None:
        query = query.where(AuditEntry.occurred_at < where.to)
    return query
