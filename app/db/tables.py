"""Sessions for the admin tables. They act as the system principal on behalf of the request's caller, as any service does.

sqladmin opens and commits them itself. What a transaction of the unit of work begins with, theirs begin with too; and
they may only read, unless `writing` was asked for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, SessionTransaction

from app.core import origin
from app.core.principal import SYSTEM

_ENTER: Final = text(
    "SELECT set_config('role', 'ibid_system', true), set_config('ibid.organization_id', '', true),"
    " set_config('ibid.origin', :origin, true), set_config('transaction_read_only', :read_only, true)"
)
_writing: ContextVar[bool] = ContextVar("writing", default=False)


class _TableSession(Session):
    pass


@event.listens_for(_TableSession, "after_begin")
def _enter(_: Session, __: SessionTransaction, connection: Connection) -> None:
    read_only = "off" if _writing.get() else "on"
    connection.execute(_ENTER, {"origin": origin.described(SYSTEM), "read_only": read_only})


@contextmanager
def writing() -> Iterator[None]:
    """Transactions that begin in the block may change something."""
    token = _writing.set(True)
    try:
        yield
    finally:
        _writing.reset(token)


class TableSessions(async_sessionmaker[AsyncSession]):
    """Makes the sessions; the engine is asked for when the first one opens."""

    def __init__(self, engine: Callable[[], AsyncEngine]) -> None:
        super().__init__(class_=AsyncSession, sync_session_class=_TableSession)
        self._engine = engine

    def __call__(self, **options: Any) -> AsyncSession:
        return super().__call__(bind=self._engine(), **options)
