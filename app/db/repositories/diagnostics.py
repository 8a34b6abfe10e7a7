"""What `ibid doctor` asks the database, and what the failures to reach it mean. Reads only."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.core.errors import DatabaseUnavailable, StartupError
from app.core.principal import SYSTEM
from app.db.engine import Database
from app.db.repositories.vector_indexes import GRAPHS, HAS_GRAPH, LARGE, MOST_GRAPHS, index_name

ROLES: Final = ("ibid_app", "ibid_system")
_ROLE_REFUSED: Final = ("42501", "22023")
"""It lacks a privilege; there is no such role."""


class Problem(NamedTuple):
    """Why the database can't be used, and what to do about it."""

    reason: str
    next_step: str


_PROBLEMS: Final[tuple[tuple[tuple[type[BaseException], ...], Problem], ...]] = (
    (
        (asyncpg.InvalidAuthorizationSpecificationError,),
        Problem("The database refuses the user or the password.", "Check them in DB_URL."),
    ),
    (
        (asyncpg.InvalidCatalogNameError,),
        Problem(
            "The server has no database of this name.", "Make it (CREATE DATABASE …), or correct DB_URL."
        ),
    ),
    (
        (asyncpg.CannotConnectNowError,),
        Problem("The database is starting up or shutting down.", "Try again shortly."),
    ),
    (
        (asyncpg.TooManyConnectionsError,),
        Problem("The database has no connection left.", "Lower DB_POOL_SIZE, or raise its max_connections."),
    ),
    (
        (asyncpg.InsufficientPrivilegeError,),
        Problem("The user in DB_URL lacks a privilege.", "Make that user the owner of the database."),
    ),
    (
        (socket.gaierror,),
        Problem("The host in DB_URL has no address.", "Check its spelling and the network."),
    ),
    (
        (ssl.SSLError,),
        Problem("The encrypted connection failed.", "Check sslmode and sslrootcert in DB_URL."),
    ),
    (
        (ConnectionRefusedError,),
        Problem("No PostgreSQL listens at the host and port of DB_URL.", "Start it, or correct DB_URL."),
    ),
    (
        (FileNotFoundError,),
        Problem(
            "DB_URL names a socket or a certificate that is not there.",
            "Start PostgreSQL, or correct DB_URL.",
        ),
    ),
    (
        (TimeoutError,),
        Problem(
            "The database does not answer in time.",
            "Check host and port of DB_URL and the firewall, or raise DB_CONNECT_TIMEOUT_SECONDS.",
        ),
    ),
    (
        (asyncpg.ClientConfigurationError,),
        Problem(
            "DB_URL has an option that can't be understood.", "Compare it with PostgreSQL's documentation."
        ),
    ),
    (
        (OSError, DatabaseUnavailable, asyncpg.PostgresConnectionError, asyncpg.InterfaceError),
        Problem(
            "The database can't be reached.", "Check that PostgreSQL runs, DB_URL, and the network between."
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Server:
    """`vector` is the version of pgvector in this database; None when it isn't there yet."""

    version: str
    vector: str | None


@dataclass(frozen=True, slots=True)
class Counts:
    organizations: int
    documents: int
    chunks: int


def connection_problem(error: BaseException) -> Problem | None:
    """What a failure to reach the database means, or None when the error is about something else, or says it itself."""
    chain = list(_causes(error))
    if isinstance(error, StartupError) and any(
        isinstance(e, asyncpg.InsufficientPrivilegeError) for e in chain
    ):
        return None
    for kinds, problem in _PROBLEMS:
        if any(isinstance(cause, kinds) for cause in chain):
            return problem
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from, through the wrappers of SQLAlchemy."""
    while error is not None:
        yield error
        if isinstance(error, DBAPIError) and error.orig is not None:
            yield error.orig
            error = error.orig.__cause__ or error.__cause__
        else:
            error = error.__cause__


async def server(database: Database) -> Server:
    async with database.engine.connect() as connection:
        row = (
            await connection.execute(
                text(
                    "SELECT current_setting('server_version'),"
                    " (SELECT extversion FROM pg_extension WHERE extname = 'vector')"
                )
            )
        ).one()
    return Server(row[0].split(" ")[0], row[1])


async def usable_role(database: Database, role: str) -> bool:
    """Whether the login role may work as this one, and this one may read documents."""
    try:
        async with database.engine.connect() as connection:
            await connection.execute(text("SELECT set_config('role', :role, true)"), {"role": role})
            await connection.execute(text("SELECT FROM documents LIMIT 1"))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in _ROLE_REFUSED:
            raise
        return False
    return True


async def is_walled(database: Database) -> bool:
    """Whether row-level security hides every document from a caller of no organization."""
    async with database.engine.connect() as connection:
        await connection.execute(
            text("SELECT set_config('role', 'ibid_app', true), set_config('ibid.organization_id', '', true)")
        )
        return not await connection.scalar(text("SELECT EXISTS (SELECT FROM documents)"))


async def graphs(database: Database, embedding_model: str, *, from_rows: int) -> tuple[int, int]:
    """How many organizations are large enough for a graph of this model's vectors, and how many of them have it."""
    async with database.unit_of_work(SYSTEM) as session:
        large = (await session.execute(LARGE, {"from_rows": from_rows, "most": MOST_GRAPHS})).all()
        needed = [each.organization_id for each in large if each.needed]
        there = [
            await session.scalar(HAS_GRAPH, {"name": index_name(GRAPHS, embedding_model, organization_id)})
            for organization_id in needed
        ]
    return len(needed), sum(map(bool, there))


async def counts(database: Database) -> Counts:
    """All organizations together."""
    async with database.unit_of_work(SYSTEM) as session:
        row = (
            await session.execute(
                text(
                    "SELECT (SELECT count(*) FROM organizations), count(*), coalesce(sum(chunk_count), 0)"
                    " FROM documents"
                )
            )
        ).one()
    return Counts(row[0], row[1], row[2])
