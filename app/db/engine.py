"""The two ways into the database: the unit of work on SQLAlchemy, and direct transactions for what runs always.

The login role may be a superuser, which no policy stops. So every transaction begins by switching, for itself only,
to `ibid_app` (sees one organization) or, for the system principal, to `ibid_system` (sees all), and row-level security
binds both. With that it tells on whose behalf it is, which the database writes into the audit log with whatever the
transaction changes.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from app.core import origin
from app.core.errors import DatabaseUnavailable, StartupError, StorageFull
from app.core.principal import Principal, PrincipalKind
from app.db import direct, vectors
from app.db.direct import DirectPool, DirectTransaction, Rows

Transaction = AsyncSession
"""The name by which the layers above hold an open transaction without knowing SQLAlchemy."""

AnyTransaction = AsyncSession | DirectTransaction
"""Either of the two; repositories that are made of textual statements alone take it."""

MINIMUM_POSTGRES: Final = 15
MINIMUM_PGVECTOR: Final = (0, 8)

_POOL_TIMEOUT_SECONDS: Final = 30
"""A database that is away refuses at once; who waits for the pool waits for other requests, and those end."""

_SERVER_SETTINGS: Final = {
    "application_name": "ibid",
    "jit": "off",
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.ef_search": "100",
    "hnsw.max_scan_tuples": "40000",
}
_ENTER: Final = text(
    "SELECT set_config('role', :role, true), set_config('ibid.organization_id', :organization_id, true),"
    " set_config('ibid.origin', :origin, true)"
)
_CONNECTION_LOST_STATES: Final = ("08", "57P", "53300")
_DISK_FULL_STATES: Final = ("53100", "53400")


class LookUps:
    """Statements by themselves, one message to the server instead of three: for what says who is asking.

    They run as the login role, outside of the walls. It sees what the system principal does where it inherits from that one's
    role, as it does unless an administrator has decided otherwise, and else nothing.
    """

    __slots__ = ("_pool",)

    def __init__(self, pool: DirectPool) -> None:
        self._pool = pool

    async def execute(self, statement: TextClause, values: Mapping[str, Any]) -> Rows:
        """Raises as `Database.unit_of_work` does."""
        with translated_errors():
            try:
                return await self._pool.fetch(statement, values, timeout_seconds=_POOL_TIMEOUT_SECONDS)
            except asyncpg.InsufficientPrivilegeError:
                return Rows(())


class Database:
    """The connections of one process."""

    def __init__(self, engine: AsyncEngine, pool: DirectPool) -> None:
        self.engine = engine
        self._pool = pool
        self.look_ups = LookUps(pool)
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)

    @asynccontextmanager
    async def unit_of_work(self, principal: Principal) -> AsyncIterator[AsyncSession]:
        """One transaction as this principal: committed at the end of the block, rolled back on any error.

        Raises DatabaseUnavailable when the database can't be reached, StorageFull when its disk is full.
        """
        with translated_errors():
            session = await self._begin(
                {
                    "role": _role(principal),
                    "organization_id": principal.organization_id or "",
                    "origin": origin.described(principal),
                }
            )
            async with session:
                yield session
                await session.commit()

    @asynccontextmanager
    async def direct(
        self, principal: Principal, *, flushed_later: bool = False
    ) -> AsyncIterator[DirectTransaction]:
        """The same without SQLAlchemy, for textual statements.

        With `flushed_later` the commit does not wait for the disk: for what nobody is told is stored before a later commit,
        which flushes this one too. Raises as `unit_of_work` does.
        """
        opening = direct.opening(
            role=_role(principal),
            organization_id=principal.organization_id or "",
            origin=origin.described(principal),
            flushed_later=flushed_later,
        )
        with translated_errors():
            connection = await self._pool.begin(opening, timeout_seconds=_POOL_TIMEOUT_SECONDS)
            try:
                yield DirectTransaction(connection)
                outcome = await connection.execute("COMMIT")
            finally:
                await self._pool.release(connection)
            if outcome != "COMMIT":
                raise RuntimeError("an error inside of the transaction was swallowed: nothing was committed")

    @asynccontextmanager
    async def single(self, principal: Principal) -> AsyncIterator[DirectTransaction]:
        """As `direct`, but each statement is a transaction, committed when it is answered: one message in the place of three.

        For what one statement does, or several that only read; planned for all. The connection stays as it is set until
        another organization needs it, so it names no origin, and nothing that is audited may be changed here.

        Raises as `unit_of_work` does. A statement on a connection that broke unnoticed is not repeated.
        """
        standing = direct.standing(role=_role(principal), organization_id=principal.organization_id or "")
        with translated_errors():
            connection = await self._pool.stand(standing, timeout_seconds=_POOL_TIMEOUT_SECONDS)
            try:
                yield DirectTransaction(connection)
            finally:
                await self._pool.release(connection)

    async def _begin(self, settings: Mapping[str, str]) -> AsyncSession:
        """A session in a transaction. A connection that broke while idle is replaced, which spares a ping for each use."""
        for last_try in (False, True):
            session = self._sessions()
            try:
                await session.execute(_ENTER, settings)
                return session
            except BaseException as error:
                await session.close()
                lost = isinstance(error, DBAPIError) and error.connection_invalidated
                if last_try or not lost:
                    raise
        raise AssertionError("the second try returns or raises")

    async def close(self) -> None:
        await self._pool.close()
        await self.engine.dispose()


def _role(principal: Principal) -> str:
    if principal.is_unproven:
        raise RuntimeError("nobody has asked yet whether this API key is still live")
    return "ibid_system" if principal.kind is PrincipalKind.SYSTEM else "ibid_app"


class translated_errors:  # noqa: N801 a context manager, read as a word of the sentence
    """Turn the failures of the database that are nobody's fault here into errors with a status and a sentence."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        if isinstance(error, (PoolTimeoutError, ConnectionError, TimeoutError)) and not isinstance(
            error, DBAPIError
        ):
            raise DatabaseUnavailable from error
        if isinstance(
            error, asyncpg.DataError
        ):  # an InterfaceError too, but of a value, not of the connection
            return
        if not isinstance(error, SQLAlchemyError | asyncpg.PostgresError | asyncpg.InterfaceError | OSError):
            return
        state = _sqlstate(error)
        if state.startswith(_DISK_FULL_STATES):
            raise StorageFull from error
        lost = isinstance(error, DBAPIError) and error.connection_invalidated
        if (
            lost
            or state.startswith(_CONNECTION_LOST_STATES)
            or (not state and isinstance(error, _UNREACHABLE))
        ):
            raise DatabaseUnavailable(retry_after_seconds=2) from error


_UNREACHABLE: Final = (OperationalError, InterfaceError, asyncpg.InterfaceError, OSError)


def _sqlstate(error: BaseException) -> str:
    original = getattr(error, "orig", error)
    return str(getattr(original, "sqlstate", None) or "")


def create_database(
    url: str,
    *,
    pool_size: int,
    overflow: int,
    connect_timeout_seconds: float,
    settings: Mapping[str, str] | None = None,
) -> Database:
    """A database from a libpq URL; nothing connects yet.

    asyncpg itself reads the URL, so every TLS option of libpq (`sslmode`, `sslrootcert`, `sslcert`, …), several hosts
    and sockets work as they do in psql. Raises StartupError when it is no URL of PostgreSQL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql"):
        raise StartupError("DB_URL must start with postgres:// or postgresql://")
    # Hosted databases hand out this option; asyncpg negotiates SCRAM without it and would send it to the server.
    query = urlencode([pair for pair in parse_qsl(parts.query) if pair[0] != "channel_binding"])
    dsn = urlunsplit(parts._replace(query=query))

    server_settings = {**_SERVER_SETTINGS, **(settings or {})}

    async def connect() -> asyncpg.Connection:
        connection = await asyncpg.connect(
            dsn, timeout=connect_timeout_seconds, server_settings=server_settings
        )
        with contextlib.suppress(ValueError):  # before the first migration there is no such type
            await vectors.register(connection)
        return connection

    kept = max(1, overflow // 2)
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=kept,
        max_overflow=max(overflow, 1) - kept,
        pool_timeout=_POOL_TIMEOUT_SECONDS,
        pool_recycle=1800,
        hide_parameters=True,  # errors are logged, and parameters are people's texts
    )
    pool = DirectPool(
        dsn, size=pool_size, connect_timeout_seconds=connect_timeout_seconds, settings=server_settings
    )
    return Database(engine, pool)


_PGVECTOR_VERSION: Final = text(
    "SELECT coalesce((SELECT extversion FROM pg_extension WHERE extname = 'vector'),"
    " (SELECT default_version FROM pg_available_extensions WHERE name = 'vector'))"
)


async def check_server(database: Database) -> None:
    """Raise StartupError, with what to do, unless the server answers, is new enough and has pgvector."""
    try:
        async with database.engine.connect() as connection:
            version = int((await connection.scalar(text("SHOW server_version_num"))) or 0) // 10_000
            available = await connection.scalar(_PGVECTOR_VERSION)
    except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        reason = str(getattr(error, "orig", error)).split("\n", maxsplit=1)[0] or type(error).__name__
        raise StartupError(f"The database can't be reached: {reason}. Check DB_URL.") from error
    if version < MINIMUM_POSTGRES:
        raise StartupError(
            f"PostgreSQL {MINIMUM_POSTGRES} or newer is needed; this server is version {version}."
        )
    wanted = ".".join(map(str, MINIMUM_PGVECTOR))
    if available is None:
        raise StartupError(
            f"This PostgreSQL has no pgvector extension. Install pgvector {wanted} or newer on the server"
            " (the image pgvector/pgvector has it), then start again."
        )
    if tuple(int(number) for number in available.split(".")[:2]) < MINIMUM_PGVECTOR:
        raise StartupError(
            f"pgvector {wanted} or newer is needed; this database has {available}."
            " Update the package on the server, then run: ALTER EXTENSION vector UPDATE;"
        )
