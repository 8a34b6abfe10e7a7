"""The audit log, as admins read it and take it away.

What changes a table is written by the database with the change (migration 0004_audit); `record` is for the acts that
change none.
"""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from app.core import cursor
from app.core.audit import Action, AuditFilter
from app.core.errors import BeyondOwnRights, OrganizationNotFound
from app.core.principal import SYSTEM, Principal, Role
from app.db.engine import Transaction
from app.db.models import AuditEntry
from app.db.repositories.audit import AuditRepository
from app.services.runtime import Runtime

_Position = tuple[datetime, str]

_EXPORT_PAGE: Final = 500
_COLUMNS: Final = (
    "id",
    "occurred_at",
    "organization_id",
    "actor_kind",
    "actor_id",
    "actor_name",
    "action",
    "object_type",
    "object_id",
    "object_name",
    "address",
    "request_id",
    "before",
    "after",
)


class ExportFormat(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class Export:
    """Pieces of a file in UTF-8, and the cursor of what did not fit into it."""

    pieces: AsyncIterator[bytes]
    following: str | None


async def record(
    session: Transaction,
    action: Action,
    *,
    organization_id: str | None,
    object_type: str,
    object_id: str | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Write an entry in this transaction, which must be the system principal's."""
    await AuditRepository(session).add(
        action,
        organization_id=organization_id,
        object_type=object_type,
        object_id=object_id,
        after=after,
    )


async def newest(
    runtime: Runtime,
    principal: Principal,
    where: AuditFilter,
    *,
    limit: int,
    after: str | None,
    offset: int,
) -> tuple[Sequence[AuditEntry], str | None]:
    """A page of entries, newest first, and the cursor of the next one (None at the end).

    Raises BeyondOwnRights, OrganizationNotFound or InvalidCursor.
    """
    seen = _visible(principal, where)
    position = cursor.decode(after) if after else None
    async with _reading(runtime, principal) as session:
        found = await AuditRepository(session).newest(seen, limit=limit + 1, after=position, offset=offset)
    return found[:limit], _cursor_of(found[limit - 1]) if len(found) > limit else None


async def export(
    runtime: Runtime,
    principal: Principal,
    where: AuditFilter,
    *,
    file_format: ExportFormat,
    limit: int,
    after: str | None,
) -> Export:
    """About `limit` entries as a file, newest first, never more than a page of them in memory. It is told itself, first.

    Raises what `newest` raises.
    """
    seen = _visible(principal, where)
    position = cursor.decode(after) if after else None
    async with runtime.database.unit_of_work(SYSTEM) as session:
        await record(
            session,
            Action.AUDIT_EXPORTED,
            organization_id=principal.organization,
            object_type="audit_log",
            after={"format": file_format, "limit": limit, "filters": _told(seen)},
        )
    async with _reading(runtime, principal) as session:
        last = await AuditRepository(session).newest(seen, limit=2, after=position, offset=limit - 1)
    # The file ends where the next one begins, whatever is written to the log meanwhile.
    end = last[0] if len(last) > 1 else None
    pages = _pages(runtime, principal, seen, after=position, last=_position(end) if end else None)
    return Export(_written(pages, file_format), _cursor_of(end) if end else None)


async def _pages(
    runtime: Runtime,
    principal: Principal,
    where: AuditFilter,
    *,
    after: _Position | None,
    last: _Position | None,
) -> AsyncIterator[Sequence[AuditEntry]]:
    """Page after page down to the last entry, each in a transaction of its own: a slow reader holds no connection."""
    while True:
        async with _reading(runtime, principal) as session:
            page = await AuditRepository(session).newest(where, limit=_EXPORT_PAGE, after=after)
        yield [entry for entry in page if last is None or _position(entry) >= last]
        if len(page) < _EXPORT_PAGE or (last is not None and _position(page[-1]) <= last):
            return
        after = _position(page[-1])


async def _written(
    pages: AsyncIterator[Sequence[AuditEntry]], file_format: ExportFormat
) -> AsyncIterator[bytes]:
    if file_format is ExportFormat.CSV:
        yield _csv([_COLUMNS])
    async for page in pages:
        rows = [_row(entry) for entry in page]
        if file_format is ExportFormat.CSV:
            yield _csv([_cell(row[column]) for column in _COLUMNS] for row in rows)
        else:
            yield "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


def _row(entry: AuditEntry) -> dict[str, Any]:
    row = {column: getattr(entry, column) for column in _COLUMNS}
    row["occurred_at"] = entry.occurred_at.isoformat()
    return row


def _cell(value: object) -> str:
    """Text that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{shown}" if shown.lstrip().startswith(("=", "+", "-", "@")) or shown[:1] in "\t\r\n" else shown


def _csv(rows: Iterable[Iterable[str]]) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file).writerows(rows)
    return file.getvalue().encode()


def _visible(principal: Principal, where: AuditFilter) -> AuditFilter:
    """What of it the caller may see. A key that is restricted to collections may not see what is beyond them."""
    if principal.collection_ids is not None:
        raise BeyondOwnRights
    if principal.role is Role.SUPERADMIN:
        return where
    if where.organization_id not in (None, principal.organization):
        raise OrganizationNotFound
    return replace(where, organization_id=principal.organization)


def _reading(runtime: Runtime, principal: Principal) -> AbstractAsyncContextManager[Transaction]:
    """A superadmin reads across organizations; everybody else behind the wall."""
    return runtime.database.unit_of_work(SYSTEM if principal.role is Role.SUPERADMIN else principal)


def _position(entry: AuditEntry) -> _Position:
    return entry.occurred_at, entry.id


def _cursor_of(entry: AuditEntry) -> str:
    return cursor.encode(entry.occurred_at, entry.id)


def _told(where: AuditFilter) -> dict[str, Any]:
    """The filters that were given, for the entry of an export."""
    given = {name: getattr(where, name) for name in AuditFilter.__slots__}
    return {
        name: sorted(value) if name == "actions" else str(value) for name, value in given.items() if value
    }
