"""The schema: up, down and up again with rows in it, and the same as the models say."""

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from app.core.access import Permission
from app.core.errors import StartupError
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.db import engine, migrations
from app.db.engine import Database
from app.db.models import Base
from app.db.repositories.collections import AccessListRepository
from app.db.repositories.documents import DocumentRepository
from app.db.repositories.identity import IdentityRepository
from app.db.repositories.places import PlaceRepository
from tests.fixtures.postgres import open_database, with_database


async def add_rows(database: Database) -> None:
    async with database.unit_of_work(SYSTEM) as session:
        organization_id = await IdentityRepository(session).add_organization("With rows")
    principal = Principal(PrincipalKind.OPERATOR, "op", organization_id, Role.ADMIN, ALL_SCOPES)
    async with database.unit_of_work(principal) as session:
        collection_id = await PlaceRepository(session, principal).default_id()
        values = {"id": "doc_1", "collection_id": collection_id, "title": "T", "content_type": "text/plain"}
        stored = await DocumentRepository(session, principal).add_completed(
            {**values, "size_bytes": 1, "sha256": "0"}, ["page"]
        )
        assert stored is not None
    async with database.unit_of_work(SYSTEM) as session:
        user_id = await IdentityRepository(session).add_user(
            organization_id=organization_id, email="a@b.test", password_hash="none", role=Role.USER
        )
    user = Principal(PrincipalKind.USER, user_id, organization_id, Role.USER, ALL_SCOPES)
    async with database.unit_of_work(user) as session:
        await PlaceRepository(session, user).personal_id(name="Personal")
        await AccessListRepository(session, user).grant(collection_id, {user_id: Permission.READ})


async def test_upgrade_downgrade_upgrade_with_rows(database: Database) -> None:
    await add_rows(database)

    await migrations.downgrade(database, "base")
    assert await migrations.current(database) is None
    await migrations.upgrade(database)

    assert await migrations.current(database) == migrations.head()
    await database.close()
    await add_rows(database)


async def test_upgrading_twice_changes_nothing(database: Database) -> None:
    await add_rows(database)

    await migrations.upgrade(database)

    async with database.unit_of_work(SYSTEM) as session:
        assert await IdentityRepository(session).first_organization_id() is not None


async def test_a_database_that_is_ahead_is_left_alone(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'of a newer version'")

    await migrations.upgrade(database)

    assert not migrations.is_behind(await migrations.current(database))
    assert migrations.is_behind(None)
    assert migrations.is_behind("0001")


async def test_the_models_are_the_migrated_schema(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))

    async with database.engine.connect() as connection:
        found = await connection.run_sync(differences)

    assert found == []


async def test_a_login_role_that_is_no_superuser_migrates_and_works(
    database_url: str, postgres_url: str
) -> None:
    admin = await asyncpg.connect(with_database(postgres_url, "postgres"))
    await admin.execute("CREATE ROLE plain_owner LOGIN PASSWORD 'x' CREATEROLE")
    await admin.execute("GRANT ibid_app, ibid_system TO plain_owner")
    await admin.execute("CREATE DATABASE plain OWNER plain_owner")
    await admin.close()
    inside = await asyncpg.connect(with_database(postgres_url, "plain"))
    await inside.execute(
        "CREATE EXTENSION vector"
    )  # a managed server offers it; a plain role may not make it here
    await inside.close()
    database = open_database(with_database(postgres_url, "plain").replace("postgres:@", "plain_owner:x@"))

    await migrations.upgrade(database)
    await database.close()
    await add_rows(database)

    async with database.engine.connect() as connection:
        assert (
            await connection.exec_driver_sql("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        ).scalar() is False
    await migrations.downgrade(database, "base")
    await database.close()


async def test_a_login_role_without_privileges_is_told_what_to_ask_for(postgres_url: str) -> None:
    admin = await asyncpg.connect(with_database(postgres_url, "postgres"))
    await admin.execute("CREATE ROLE powerless LOGIN")
    await admin.execute("CREATE DATABASE powerless OWNER powerless")
    await admin.close()
    database = open_database(with_database(postgres_url, "powerless").replace("postgres:@", "powerless:@"))

    with pytest.raises(StartupError, match="administrator run once"):
        await migrations.upgrade(database)
    await database.close()


async def test_a_missing_extension_is_a_sentence(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    monkeypatch.setattr(engine, "MINIMUM_PGVECTOR", (99, 0))

    with pytest.raises(StartupError, match=r"pgvector 99\.0 or newer is needed; this database has 0\.8"):
        await migrations.upgrade(database)


async def test_a_url_that_is_not_postgres_is_a_sentence() -> None:
    with pytest.raises(StartupError, match="must start with postgres"):
        open_database("mysql://host/db")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
async def test_both_schemes_and_tls_options_work(database_url: str, scheme: str) -> None:
    url = database_url.replace("postgresql://", f"{scheme}://") + "&sslmode=prefer&channel_binding=prefer"
    database = open_database(url)

    assert await migrations.current(database) == migrations.head()
    await database.close()
