"""Transactions without SQLAlchemy, for the statements that run with every request.

A transaction of several statements takes three messages to the server and one for each statement: it begins, as somebody, and
is committed. A statement that is a transaction by itself takes one, on a connection that stands as this somebody already.

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
from sqlalchemy import TextClause

from app.db import vectors

_PARAMETER: Final = re.compile(r"(?<![:\w\\]):([A-Za-z_]\w*)")
_MOST_STATEMENTS: Final = 4_096
_MOST_STANDINGS: Final = 1_024
_CLOSING_SECONDS: Final = 5.0
_LEAVING: Final = "RESET ROLE; RESET ALL;"
"""As it was when it was opened: whatever was set since."""
_PLANNED_FOR_ALL: Final = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0;"

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


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """One of the pool's.

    `standing` is what was set on it for good, as whom each statement by itself runs, empty for the login role; `tuned` is what
    was set besides since.
    """

    standing = ""
    tuned: Mapping[str, str] = {}

    async def leave(self) -> None:
        """Be as it was opened. A message of its own: in that of a transaction it would be taken back where that is rolled back."""
        if self.standing:
            await self.execute(_LEAVING)
            self.standing, self.tuned = "", {}


class DirectTransaction:
    """An open transaction, made by `Database.direct`, or a connection on which each statement is one, by `Database.single`."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute(self, statement: TextClause, values: Mapping[str, Any]) -> Rows:
        sql, names = _numbered(statement)
        return Rows(await self._connection.fetch(sql, *[values[name] for name in names]))

    async def tune(self, setting: str, value: str) -> None:
        """Have a setting of the server: in this transaction, or where statements are transactions for as long as they run as this one's."""
        lasts = not self._connection.is_in_transaction()
        if lasts and self._connection.tuned.get(setting) == value:
            return
        await self._connection.fetchval("SELECT set_config($1, $2, $3)", setting, value, not lasts)
        if lasts:
            self._connection.tuned = {**self._connection.tuned, setting: value}

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
        self._kept_apart = size // 2
        self._idle: list[Connection] = []
        """The one used last is the last."""
        self._used: set[Connection] = set()

    async def begin(self, opening: str, *, timeout_seconds: float) -> Connection:
        """A connection on which `opening` has run.

        Raises TimeoutError when all stay in use for so long.
        """

        async def begun(connection: Connection) -> None:
            await connection.leave()
            await connection.execute(opening)

        connection, _ = await self._first(begun, timeout_seconds)
        return connection

    async def stand(self, standing: str, *, timeout_seconds: float) -> Connection:
        """A connection on which each statement is a transaction, as `standing` says. Raises TimeoutError as `begin` does."""

        async def stood(connection: Connection) -> None:
            if connection.standing != standing:
                await connection.execute(f"{_LEAVING} {standing}")
                connection.standing, connection.tuned = standing, {}

        connection, _ = await self._first(stood, timeout_seconds, standing)
        return connection

    async def fetch(
        self, statement: TextClause, values: Mapping[str, Any], *, timeout_seconds: float
    ) -> Rows:
        """What one statement by itself returns, as the login role. Raises TimeoutError as `begin` does."""
        sql, names = _numbered(statement)
        arguments = [values[name] for name in names]

        async def fetched(connection: Connection) -> Sequence[Row]:
            await connection.leave()
            rows: Sequence[Row] = await connection.fetch(sql, *arguments)
            return rows

        connection, rows = await self._first(fetched, timeout_seconds)
        self._put_back(connection)
        return Rows(rows)

    async def _first(
        self,
        work: Callable[[Connection], Awaitable[Result]],
        timeout_seconds: float,
        standing: str = "",
    ) -> tuple[Connection, Result]:
        """A connection, and what came of the first work on it. One that broke while idle is replaced, as are all of its age."""
        for last_try in (False, True):
            connection = await self._take(timeout_seconds, standing)
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

    async def release(self, connection: Connection) -> None:
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

    async def _take(self, timeout_seconds: float, standing: str) -> Connection:
        if self._free.locked():
            async with asyncio.timeout(timeout_seconds):
                await self._free.acquire()
        else:
            await self._free.acquire()
        try:
            connection = self._idle_one(standing) or await self._connect()
        except BaseException:
            self._free.release()
            raise
        self._used.add(connection)
        return connection

    def _idle_one(self, standing: str) -> Connection | None:
        """The one used last of those that stand so already; else, where there are enough, the one that nobody used for longest."""
        for place in range(len(self._idle) - 1, -1, -1):
            connection = self._idle[place]
            if connection.standing == standing or connection.is_closed():
                del self._idle[place]
                if not connection.is_closed():
                    return connection
        if self._idle and len(self._idle) + len(self._used) >= self._kept_apart:
            return self._idle.pop(0)
        return None

    def _put_back(self, connection: Connection) -> None:
        self._used.discard(connection)
        if not connection.is_closed():
            self._idle.append(connection)
        self._free.release()

    async def _roll_back(self, connection: Connection) -> None:
        try:
            await connection.execute("ROLLBACK")
        except BaseException:
            connection.terminate()  # nobody knows what state it is in
            raise
        finally:
            self._put_back(connection)

    async def _connect(self) -> Connection:
        connection: Connection = await asyncpg.connect(
            self._dsn,
            timeout=self._connect_timeout_seconds,
            server_settings=self._settings,
            connection_class=Connection,
            record_class=Row,
        )
        try:
            await vectors.register(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection


def opening(*, role: str, organization_id: str, origin: str, flushed_later: bool) -> str:
    """One message to the server that begins a transaction as this role and organization, on this one's behalf."""
    flush = " SET LOCAL synchronous_commit = off;" if flushed_later else ""
    return (
        f"BEGIN; SET LOCAL ROLE {role}; SET LOCAL ibid.organization_id = {_literal(organization_id)};"
        f" SET LOCAL ibid.origin = {_literal(origin)};{flush}"
    )


@lru_cache(maxsize=_MOST_STANDINGS)
def standing(*, role: str, organization_id: str) -> str:
    """One message after which each statement of a connection is a transaction as this role and organization.

    A statement is planned once for whatever parameters, by indexes alone and without parallel workers: planning the search
    takes 1 to 2 ms, and the plan made for a large organization must be right for a small one.
    """
    return f"SET ROLE {role}; SET ibid.organization_id = {_literal(organization_id)}; {_PLANNED_FOR_ALL}"


def _literal(value: str) -> str:
    """A string for SQL, whatever `standard_conforming_strings` says."""
    return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
