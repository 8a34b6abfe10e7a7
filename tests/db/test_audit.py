"""The audit log in the database: of the same transaction, never changed, and nothing secret in it."""

import re

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.audit import Action
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.db.engine import Database
from app.db.models import Base
from app.db.repositories.collections import CollectionRepository
from app.db.repositories.identity import IdentityRepository

# Tables whose rows nobody's decision makes, each with the reason.
UNAUDITED = {
    "audit_log": "it is the log",
    "sessions": "a conversation is its owner's own",
    "messages": "a conversation is its owner's own",
    "pages": "the text of a document, whose entry tells of it",
    "chunks": "the text of a document, whose entry tells of it",
    "refresh_tokens": "descendants of a login, whose entry tells of it",
    "socket_tickets": "stand for a credential that is there already, for half a minute",
    "guesses": "a counter",
    "job_turns": "kept by the service itself",
    "file_deletions": "kept by the service itself",
    "idempotency_keys": "what a request does has its own entry",
    "index_state": "kept by the service itself",
    "index_rebuilds": "who starts and cancels one is told by the service",
    "rebuild_claims": "kept by the service itself",
    "stored_files": "the file of a document, whose entry tells of it",
    "workers": "kept by the service itself",
    "term_statistics": "kept by the service itself",
    "term_counts": "kept by the service itself",
    "usage_events": "a ledger, which only grows",
    "budget_spending": "kept by the service itself",
    "budget_reservations": "kept by the service itself",
}
WRITTEN_BY_SERVICES = {
    Action.RECOVERY_CODES_RENEWED,
    Action.LOGIN_FAILED,
    Action.REFRESH_TOKEN_REUSED,
    Action.SECRETS_ROTATED,
    Action.AUDIT_EXPORTED,
    Action.INDEX_REPAIRED,
    Action.INDEX_REBUILD_STARTED,
    Action.INDEX_REBUILD_CANCELLED,
}


async def new_principal(database: Database) -> Principal:
    async with database.unit_of_work(SYSTEM) as session:
        organization_id = await IdentityRepository(session).add_organization("O")
    return Principal(PrincipalKind.OPERATOR, "op", organization_id, Role.ADMIN, ALL_SCOPES)


async def test_every_table_is_audited_or_has_a_reason_why_not(database: Database) -> None:
    async with database.engine.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE tgfoid = 'audit_row'::regproc"
            )
        )
        audited = set(rows.scalars())

    assert audited | UNAUDITED.keys() == {table.name for table in Base.metadata.sorted_tables}
    assert not audited & UNAUDITED.keys()


async def test_the_database_and_the_code_know_the_same_acts(database: Database) -> None:
    async with database.engine.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT encode(tgargs, 'escape') FROM pg_trigger WHERE tgfoid = 'audit_row'::regproc"
                " UNION ALL SELECT prosrc FROM pg_proc WHERE proname IN ('audit_row', 'purge_audit_log')"
            )
        )
        written = {act for row in rows.scalars() for act in re.findall(r"\b[a-z_]+\.[a-z_]+\b", row)}

    assert (written - {"ibid.origin"}) | WRITTEN_BY_SERVICES == set(Action)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_log SET actor_name = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"],
)
async def test_nobody_changes_an_entry_not_even_a_superuser(database: Database, statement: str) -> None:
    """The login role of these tests is a superuser, whom no privilege binds."""
    principal = await new_principal(database)

    for acting in (principal, SYSTEM):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with database.unit_of_work(acting) as session:
                await session.execute(text(statement))
    with pytest.raises(DBAPIError, match="append-only"):
        async with database.engine.begin() as connection:
            assert await connection.scalar(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))
            await connection.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO audit_log (actor_kind, actor_name, action, object_type) VALUES ('user', 'x', 'user.deleted', 'user')",
        "SELECT audit_write('user.deleted', NULL, 'user', NULL, NULL, NULL, NULL)",
    ],
)
async def test_a_callers_transaction_makes_up_no_entry(database: Database, statement: str) -> None:
    principal = await new_principal(database)

    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.unit_of_work(principal) as session:
            await session.execute(text(statement))


async def test_an_entry_is_of_the_transaction_that_it_tells_of(database: Database) -> None:
    principal = await new_principal(database)

    with pytest.raises(RuntimeError, match="taken back"):
        async with database.unit_of_work(principal) as session:
            await CollectionRepository(session, principal).add("Secret plans")
            inside = await entries(session, "collection.created")
            raise RuntimeError("taken back")
    async with database.unit_of_work(SYSTEM) as session:
        after = await entries(session, "collection.created")

    assert (inside[-1], after) == ("Secret plans", ["General"])


async def test_an_organization_reads_its_own_entries_alone(database: Database) -> None:
    first, second = await new_principal(database), await new_principal(database)

    async with database.unit_of_work(first) as session:
        seen = set((await session.execute(text("SELECT organization_id FROM audit_log"))).scalars())

    assert seen == {first.organization_id}
    assert second.organization_id


async def test_what_a_foreign_key_takes_along_is_not_told(database: Database) -> None:
    principal = await new_principal(database)
    async with database.unit_of_work(principal) as session:
        collections = CollectionRepository(session, principal)
        made = await collections.add("C")
        await session.execute(
            text(
                "INSERT INTO documents (id, organization_id, collection_id, title, content_type, size_bytes, sha256, status)"
                " VALUES ('doc_1', :o, :c, 'T', 'text/plain', 1, '0', 'completed')"
            ),
            {"o": principal.organization_id, "c": made.id},
        )
        await collections.delete(made.id)
        assert await entries(session, "document.deleted") == []
        assert await entries(session, "collection.deleted") == ["C"]


async def test_a_long_value_is_cut(database: Database) -> None:
    principal = await new_principal(database)
    async with database.unit_of_work(principal) as session:
        await CollectionRepository(session, principal).add("C", description="ü" * 5000)
        after = await session.scalar(text("SELECT after FROM audit_log WHERE object_name = 'C'"))

    assert after["description"] == "ü" * 1000 + "…"


async def test_the_owner_purges_old_entries_by_a_function_that_tells_it(database: Database) -> None:
    await new_principal(database)
    async with database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE audit_log DISABLE TRIGGER append_only"))
        await connection.execute(
            text("UPDATE audit_log SET occurred_at = now() - interval '2 years' WHERE object_name = 'O'")
        )
        await connection.execute(text("ALTER TABLE audit_log ENABLE TRIGGER append_only"))

    async with database.engine.begin() as connection:
        purged = await connection.scalar(text("SELECT purge_audit_log(interval '1 year')"))
    async with database.unit_of_work(SYSTEM) as session:
        left = (
            await session.execute(text("SELECT action, after ->> 'entries' FROM audit_log ORDER BY id"))
        ).all()
        with pytest.raises(DBAPIError, match="permission denied"):
            await session.execute(text("SELECT purge_audit_log(interval '1 year')"))

    assert purged == 1
    assert [tuple(row) for row in left] == [("collection.created", None), ("audit.purged", "1")]
    with pytest.raises(DBAPIError, match="append-only"):
        async with database.engine.begin() as connection:
            await connection.execute(text("DELETE FROM audit_log"))


async def entries(session: AsyncSession, action: str) -> list[str]:
    rows = await session.execute(
        text("SELECT object_name FROM audit_log WHERE action = :action ORDER BY occurred_at"),
        {"action": action},
    )
    return list(rows.scalars())


async def test_a_temporary_table_under_its_name_takes_no_entry(database: Database) -> None:
    principal = await new_principal(database)

    async with database.unit_of_work(principal) as session:
        await session.execute(text("RESET ROLE"))
        await session.execute(text("CREATE TEMP TABLE audit_log (LIKE public.audit_log) ON COMMIT DROP"))
        await session.execute(text("GRANT ALL ON pg_temp.audit_log TO ibid_app, ibid_system"))
        await session.execute(text("SET LOCAL ROLE ibid_app"))
        await CollectionRepository(session, principal).add("Seen all the same")
        diverted = await session.scalar(text("SELECT count(*) FROM pg_temp.audit_log"))
    async with database.unit_of_work(SYSTEM) as session:
        assert "Seen all the same" in await entries(session, "collection.created")
    assert diverted == 0
