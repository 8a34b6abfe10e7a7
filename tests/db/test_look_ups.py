"""Who is asking is found by one statement without a transaction, whatever the login role may see by itself."""

import asyncpg
import pytest

from app.core import security
from app.core.errors import DatabaseUnavailable, Unauthenticated
from app.db.engine import Database
from app.db.repositories.credentials import CredentialRepository
from app.services.auth import authenticate_key
from tests.fixtures.postgres import open_database, with_database

KEY = """
WITH o AS (INSERT INTO organizations (id, name) VALUES ('org_looked_up', 'O'))
INSERT INTO api_keys (id, organization_id, name, public_part, secret_hash, scopes)
VALUES ('key_looked_up', 'org_looked_up', 'K', $1, $2, ARRAY['chat'])
"""
ROLES = {
    "looks_by_inheritance": "LOGIN",
    "looks_by_nothing": "LOGIN NOINHERIT",
    "looks_at_an_empty_table": "LOGIN NOINHERIT",
}


async def store_key(database_url: str) -> security.ApiKey:
    key = security.new_api_key()
    owner = await asyncpg.connect(database_url)
    await owner.execute(KEY, key.public, key.secret_hash)
    await owner.close()
    return key


async def make_role(database_url: str, name: str) -> str:
    """The URL with which the role logs in."""
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"DROP ROLE IF EXISTS {name}")
    await owner.execute(f"CREATE ROLE {name} {ROLES[name]}; GRANT ibid_app, ibid_system TO {name}")
    if (
        name == "looks_at_an_empty_table"
    ):  # as the owner of the tables would: row-level security binds it, too
        await owner.execute(f"GRANT SELECT ON api_keys TO {name}")
    await owner.close()
    return database_url.replace("postgres:@", f"{name}:@")


async def drop_role(database_url: str, name: str) -> None:
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
    await owner.close()


@pytest.mark.parametrize("role", ROLES)
async def test_a_key_is_found_whatever_the_login_role_inherits(database_url: str, role: str) -> None:
    key = await store_key(database_url)
    database = open_database(await make_role(database_url, role))

    by_itself = await CredentialRepository(database.look_ups).find_live_key(key.public)
    assert (by_itself is not None) is (role == "looks_by_inheritance")
    principal = await authenticate_key(database, str(key))
    assert (principal.id, principal.organization_id) == ("key_looked_up", "org_looked_up")
    with pytest.raises(Unauthenticated):
        await authenticate_key(database, str(security.new_api_key()))

    await database.close()
    await drop_role(database_url, role)


async def test_a_connection_that_broke_while_idle_is_replaced(database_url: str) -> None:
    key = await store_key(database_url)
    database = open_database(database_url, pool_size=1)
    await authenticate_key(database, str(key))
    owner = await asyncpg.connect(with_database(database_url, "postgres"))
    await owner.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ibid' AND datname = $1",
        database_url.rpartition("/")[2].partition("?")[0],
    )
    await owner.close()

    assert (await authenticate_key(database, str(key))).id == "key_looked_up"
    await database.close()


async def test_a_database_that_is_away_says_so(database: Database) -> None:
    away = open_database("postgresql://postgres@127.0.0.1:9/nowhere")
    with pytest.raises(DatabaseUnavailable):
        await authenticate_key(away, str(security.new_api_key()))
    await away.close()
