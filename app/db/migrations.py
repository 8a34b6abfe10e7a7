"""Brings a database to a revision of the schema; one process at a time, whoever starts first."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from alembic import command
from app.core.errors import StartupError
from app.db.engine import Database, check_server, translated_errors

log = structlog.get_logger(__name__)

_ROOT: Final = Path(__file__).resolve().parents[2]
_LOCK: Final = 0x49_62_69_64
"""Key of the advisory lock ("Ibid"), held so that replicas that start together migrate one after the other."""


_INSUFFICIENT_PRIVILEGE: Final = "42501"
_GRANTS: Final = (
    "Let the database's administrator run once: CREATE ROLE ibid_app NOLOGIN; CREATE ROLE ibid_system NOLOGIN;"
    " GRANT ibid_app, ibid_system TO the login role; CREATE EXTENSION vector; and make the login role the owner of the"
    " database."
)


def _cause(error: ProgrammingError) -> str:
    return str(error.orig).rsplit(": ", maxsplit=1)[-1]


def _config(connection: Connection | None = None) -> Config:
    config = Config(_ROOT / "alembic.ini")
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The newest revision that this version of the code knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise StartupError(f"No migrations were found under {_ROOT / 'alembic'}.")
    return revision


def is_behind(revision: str | None) -> bool:
    """Whether this code has migrations that a database at this revision lacks.

    A revision that it does not know is a newer one: the code was rolled back, and migrations are made so that the version
    before still runs.
    """
    script = ScriptDirectory.from_config(_config())
    known = {migration.revision for migration in script.walk_revisions()}
    return revision is None or (revision in known and revision != head())


async def current(database: Database) -> str | None:
    """The revision that the database is at, or None for an empty one."""
    with translated_errors():
        async with database.engine.connect() as connection:
            return await connection.run_sync(
                lambda sync: MigrationContext.configure(sync).get_current_revision()
            )


async def upgrade(database: Database, revision: str = "head") -> None:
    """Run the missing migrations, each in its own transaction; nothing to do is no error.

    Raises StartupError when the server or its pgvector is missing or too old.
    """
    await check_server(database)
    if revision == "head" and not is_behind(at := await current(database)):
        log.info("database_up_to_date", revision=at)
        return
    await _run(database, revision, command.upgrade)


async def downgrade(database: Database, revision: str) -> None:
    """Undo migrations back to `revision` (`base` undoes all, data included)."""
    await _run(database, revision, command.downgrade)


async def _run(database: Database, revision: str, step: Callable[[Config, str], None]) -> None:
    def work(connection: Connection) -> None:
        step(_config(connection), revision)

    async with database.engine.connect() as connection:
        await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        await connection.execute(
            text("SET lock_timeout = '10s'")
        )  # only now: it would limit the wait above too
        await connection.commit()
        try:
            await connection.run_sync(work)
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) == _INSUFFICIENT_PRIVILEGE:
                await connection.rollback()
                raise StartupError(
                    f"The database's login role lacks a privilege ({_cause(error)}). {_GRANTS}"
                ) from error
            raise
        finally:
            await connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
            await connection.execute(text("RESET lock_timeout"))
            await connection.commit()
