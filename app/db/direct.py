"""Transactions without SQLAlchemy, for the statements that run with every request.

Through SQLAlchemy's asyncio session a transaction of one statement costs 0.6 ms of this process, straight on asyncpg
0.1 ms (docs/decisions/0017-two-ways-into-the-database.md). The statements are the same `text(...)` with named
parameters, so a repository of such statements runs on either.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

import asyncpg
from pgvector.asyncpg import register_vector
from sqlalchemy import TextClause

_PARAMETER: Final = re.compile(r"(?<![:\w\\]):([A-Za-z_]\w*)")
_MOST_STATEMENTS: Final = 4_096
_CLOSING_SECONDS: Final = 5.0
_PLANNED_FOR_ALL: Final = (
    "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off;"
    " SET LOCAL max_parallel_workers_per_gather = 0;"
)

Result = TypeVar("Result")


class Row(asyncpg.Record):  # type: ignore[misc]  # asyncpg has no types
    """A row whose columns are attributes, as SQLAlchemy's are."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Rows:
    """What a statement returned."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def all(self) -> Sequence[Row]:
        return self._rows

    def one(self) -> Row:
        """Raises LookupError unless there is exactly one row."""
        row = self.one_or_none()
        if row is None:
            raise LookupError("one row was expected, none was found")
        return row

    def one_or_none(self) -> Row | None:
        """Raises LookupError for more than one row."""
        if len(self._rows) > 1:
            raise LookupError("one row was expected, several were found")
        return self._rows[0] if self._rows else None


class DirectTransaction:
    """An open transaction; made by `Database.direct`, committed and rolled back there."""

    __slots__ = ("_connection",)

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def execute(self, statement: TextClause, values: Mapping[str, Any]) -> Rows:
        sql, names = _numbered(statement)
        return Rows(await self._connection.fetch(sql, *[values[name] for name in names]))

    async def scalar(self, statement: TextClause, values: Mapping[str, Any]) -> Any:
        """The first column of the first row; None when there is none."""
        sql, names = _numbered(statement)
        return await self._connection.fetchval(sql, *[values[name] for name in names])


@lru_cache(maxsize=_MOST_STATEMENTS)
def _numbered(statement: TextClause) -> tuple[str, tuple[str, ...]]:
    """The statement with `$1…` for its `:name` parameters, and the names in that order."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        name = match[1]
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _PARAMETER.sub(number, statement.text).replace("\\:", ":"), tuple(names)


class DirectPool:
    """Connections for direct transactions, opened when they are first needed.

    Not asyncpg's own pool: its proxies, and a task for every release, cost as much as the transaction itself.
    """

    def __init__(
        self, dsn: str, *, size: int, connect_timeout_seconds: float, settings: Mapping[str, str]
    ) -> None:
        self._dsn = dsn
        self._connect_timeout_seconds = connect_timeout_seconds
        self._settings = dict(settings)
        self._free = asyncio.Semaphore(size)
        self._idle: list[asyncpg.Connection] = []
        self._used: set[asyncpg.Connection] = set()

    async def begin(self, opening: str, *, timeout_seconds: float) -> asyncpg.Connection:
        """A connection on which `opening` has run.

        Raises TimeoutError when all stay in use for so long.
        """
        connection, _ = await self._first(lambda each: each.execute(opening), timeout_seconds)
        return connection

    async def fetch(
        self, statement: TextClause, values: Mapping[str, Any], *, timeout_seconds: float
    ) -> Rows:
        """What one statement by itself returns, as the login role. Raises TimeoutError as `begin` does."""
        sql, names = _numbered(statement)
        arguments = [values[name] for name in names]
        connection, rows = await self._first(lambda each: each.fetch(sql, *arguments), timeout_seconds)
        self._put_back(connection)
        return Rows(rows)

    async def _first(
        self, work: Callable[[asyncpg.Connection], Awaitable[Result]], timeout_seconds: float
    ) -> tuple[asyncpg.Connection, Result]:
        """A connection, and what came of the first work on it. One that broke while idle is replaced, as are all of its age."""
        for last_try in (False, True):
            connection = await self._take(timeout_seconds)
            try:
                return connection, await work(connection)
            except BaseException as error:
                lost = connection.is_closed()
                if not isinstance(error, Exception):
                    connection.terminate()  # cancelled: nobody knows whether the transaction has begun
                await self.release(connection)
                if last_try or not lost or not isinstance(error, Exception):
                    raise
                while self._idle:
                    self._idle.pop().terminate()
        raise AssertionError("the second try returns or raises")

    async def release(self, connection: asyncpg.Connection) -> None:
        """Give a connection back; a transaction that is still open on it is rolled back, also when cancelled here."""
        if connection.is_closed() or not connection.is_in_transaction():
            self._put_back(connection)
        else:
            await asyncio.shield(self._roll_back(connection))

    async def close(self) -> None:
        """Close what is idle in good order, and cut off what is in use."""
        idle, self._idle = self._idle, []
        for connection in self._used:
            connection.terminate()
        try:
            async with asyncio.timeout(_CLOSING_SECONDS):
                for connection in idle:
                    await connection.close()
        except TimeoutError:
            for connection in idle:
                connection.terminate()

    async def _take(self, timeout_seconds: float) -> asyncpg.Connection:
        if self._free.locked():
            async with asyncio.timeout(timeout_seconds):
                await self._free.acquire()
        else:
            await self._free.acquire()
        try:
            connection = self._idle_one() or await self._connect()
        except BaseException:
            self._free.release()
            raise
        self._used.add(connection)
        return connection

    def _idle_one(self) -> asyncpg.Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    def _put_back(self, connection: asyncpg.Connection) -> None:
        self._used.discard(connection)
        if not connection.is_closed():
            self._idle.append(connection)
        self._free.release()

    async def _roll_back(self, connection: asyncpg.Connection) -> None:
        try:
            await connection.execute("ROLLBACK")
        except BaseException:
            connection.terminate()  # nobody knows what state it is in
            raise
        finally:
            self._put_back(connection)

    async def _connect(self) -> asyncpg.Connection:
        connection = await asyncpg.connect(
            self._dsn,
            timeout=self._connect_timeout_seconds,
            server_settings=self._settings,
            record_class=Row,
        )
        try:
            await register_vector(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection


def opening(
    *, role: str, organization_id: str, origin: str, planned_for_all: bool, flushed_later: bool
) -> str:
    """One message to the server that begins a transaction as this role and organization, on this one's behalf."""
    plans = _PLANNED_FOR_ALL if planned_for_all else ""
    flush = "SET LOCAL synchronous_commit = off;" if flushed_later else ""
    return (
        f"BEGIN; SET LOCAL ROLE {role}; SET LOCAL ibid.organization_id = {_literal(organization_id)};"
        f" SET LOCAL ibid.origin = {_literal(origin)}; {plans}{flush}"
    )


def _literal(value: str) -> str:
    """A string for SQL, whatever `standard_conforming_strings` says."""
    return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
