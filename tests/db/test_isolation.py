"""The wall between organizations holds in the database, whatever a query says."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.db.engine import Database
from app.db.models import Base
from app.db.repositories.identity import IdentityRepository

TENANT_TABLES = [
    table.name
    for table in Base.metadata.sorted_tables
    if "organization_id" in table.columns or table.name == "organizations"
]
CREDENTIALS = [
    "users",
    "api_keys",
    "logins",
    "refresh_tokens",
    "recovery_codes",
    "invitations",
    "password_resets",
    "guesses",
]
READABLE = ["collections", "documents", "pages", "chunks", "sessions", "messages", "organizations"]


async def new_principal(database: Database) -> Principal:
    async with database.unit_of_work(SYSTEM) as session:
        organization_id = await IdentityRepository(session).add_organization("O")
    return Principal(PrincipalKind.API_KEY, "key_1", organization_id, Role.ADMIN, ALL_SCOPES)


async def fill(database: Database, principal: Principal) -> None:
    """A row in every table that the application's role may read."""
    organization_id = principal.organization
    async with database.unit_of_work(SYSTEM) as session:
        for statement in (
            "INSERT INTO documents (id, organization_id, collection_id, title, content_type, size_bytes, sha256, status)"
            " SELECT 'doc_' || :o, :o, id, 't', 'text/plain', 1, :o, 'completed' FROM collections WHERE organization_id = :o",
            "INSERT INTO pages VALUES ('doc_' || :o, 1, :o, 'canary')",
            "INSERT INTO chunks (id, organization_id, collection_id, document_id, ordinal, page, char_start, char_end, text,"
            " embedding, embedding_model) SELECT 'chk_' || :o, :o, collection_id, id, 0, 1, 0, 6, 'canary', '[1,2,3]', 'm'"
            " FROM documents WHERE organization_id = :o",
            "INSERT INTO term_statistics VALUES (:o, 1, 0.5)",
            "INSERT INTO term_counts VALUES (:o, 1, now())",
            "INSERT INTO sessions (organization_id, id, owner_id, title) VALUES (:o, 'sess_1', 'key_1', 't')",
            "INSERT INTO messages (id, organization_id, session_id, role, content, status)"
            " VALUES ('msg_' || :o, :o, 'sess_1', 'user', 'canary', 'complete')",
        ):
            await session.execute(text(statement.replace(":o", f"'{organization_id}'")))


async def test_every_table_with_an_organization_is_forced_behind_the_wall(database: Database) -> None:
    async with database.engine.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT relname FROM pg_class WHERE relkind = 'r' AND relrowsecurity AND relforcerowsecurity"
            )
        )
        walled = {row.relname for row in rows}

    assert set(TENANT_TABLES) <= walled


@pytest.mark.parametrize("table", [*READABLE, "searchable_chunks"])
async def test_a_query_without_any_condition_sees_only_its_own_organization(
    database: Database, table: str
) -> None:
    first, second = await new_principal(database), await new_principal(database)
    await fill(database, first)
    await fill(database, second)
    column = "id" if table == "organizations" else "organization_id"

    async with database.unit_of_work(first) as session:
        seen = set((await session.execute(text(f"SELECT {column} FROM {table}"))).scalars())

    assert seen == {first.organization_id}


@pytest.mark.parametrize("table", ["documents", "chunks", "messages", "sessions", "pages"])
async def test_another_organizations_rows_can_not_be_changed_or_deleted(
    database: Database, table: str
) -> None:
    first, second = await new_principal(database), await new_principal(database)
    await fill(database, second)

    async with database.unit_of_work(first) as session:
        changed = await session.execute(
            text(f"UPDATE {table} SET organization_id = '{first.organization_id}' RETURNING 1")
        )
        deleted = await session.execute(text(f"DELETE FROM {table} RETURNING 1"))

    assert (changed.all(), deleted.all()) == ([], [])


async def test_a_row_can_not_be_smuggled_into_another_organization(database: Database) -> None:
    first, second = await new_principal(database), await new_principal(database)

    with pytest.raises(ProgrammingError, match="row-level security"):
        async with database.unit_of_work(first) as session:
            await session.execute(
                text(
                    "INSERT INTO sessions (organization_id, id, owner_id, title) VALUES (:o, 's', 'x', 't')"
                ),
                {"o": second.organization_id},
            )


@pytest.mark.parametrize("table", CREDENTIALS)
async def test_credentials_are_out_of_the_applications_reach(database: Database, table: str) -> None:
    principal = await new_principal(database)

    with pytest.raises(ProgrammingError, match="permission denied"):
        async with database.unit_of_work(principal) as session:
            await session.execute(text(f"SELECT * FROM {table}"))


async def test_the_organization_of_a_transaction_does_not_stay_on_its_connection(database: Database) -> None:
    principal = await new_principal(database)
    async with database.unit_of_work(principal):
        pass

    async with database.engine.connect() as connection:
        left = (
            await connection.execute(
                text("SELECT current_setting('ibid.organization_id', true), current_user")
            )
        ).one()

    assert left == ("", "postgres")
