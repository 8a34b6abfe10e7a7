"""Direct transactions share a bounded number of connections, and give each back clean, whatever ended them."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest
from sqlalchemy import text

from app.core import origin
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.db.direct import DirectTransaction
from app.db.engine import Database
from tests.fixtures.postgres import open_database

_PID = text("SELECT pg_backend_pid()")
_SLEEP = text("SELECT pg_sleep(:seconds)")
_NAP = {"seconds": 30.0}


@pytest.fixture
async def one_connection(database_url: str) -> AsyncIterator[Database]:
    database = open_database(database_url, pool_size=1)
    yield database
    await database.close()


async def pid_of(database: Database) -> int:
    async with database.direct(SYSTEM) as session:
        return int(await session.scalar(_PID, {}))


async def test_transactions_wait_for_a_connection_rather_than_open_more(one_connection: Database) -> None:
    assert len(set(await asyncio.gather(*(pid_of(one_connection) for _ in range(20))))) == 1


async def test_a_cancelled_statement_leaves_no_transaction_on_its_connection(
    one_connection: Database,
) -> None:
    async def sleep() -> None:
        async with one_connection.direct(SYSTEM) as session:
            await session.execute(text("SET LOCAL statement_timeout = '60s'"), {})
            await session.execute(_SLEEP, _NAP)

    before = await pid_of(one_connection)
    sleeping = asyncio.create_task(sleep())
    await asyncio.sleep(0.3)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    async with one_connection.direct(SYSTEM) as session:
        assert await session.scalar(_PID, {}) == before
        assert await session.scalar(text("SELECT current_setting('statement_timeout')"), {}) == "0"


async def test_one_who_gives_up_waiting_takes_no_connection_along(one_connection: Database) -> None:
    async with one_connection.direct(SYSTEM):
        waiting = [asyncio.create_task(pid_of(one_connection)) for _ in range(3)]
        await asyncio.sleep(0.05)
        waiting[0].cancel()
        waiting[1].cancel()
    assert await waiting[2]
    assert await pid_of(one_connection)


async def test_a_connection_that_the_server_ended_is_replaced_unnoticed(
    one_connection: Database, database: Database
) -> None:
    before = await pid_of(one_connection)
    async with database.engine.begin() as connection:
        await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": before})
    assert await pid_of(one_connection) != before


async def test_closing_ends_the_connections_that_are_in_use_too(database_url: str) -> None:
    database = open_database(database_url, pool_size=2)

    async def sleep() -> None:
        async with database.direct(SYSTEM) as session:
            await session.execute(_SLEEP, _NAP)

    await pid_of(database)
    sleeping = asyncio.create_task(sleep())
    await asyncio.sleep(0.2)
    await database.close()
    with pytest.raises(Exception, match=r"closed|reached|answer|database"):
        await asyncio.wait_for(sleeping, 10)


COMPANY = Principal(PrincipalKind.API_KEY, "key_1", "org_one", Role.ADMIN, ALL_SCOPES)
OTHERS = Principal(PrincipalKind.API_KEY, "key_2", "org_two", Role.ADMIN, ALL_SCOPES)
_WHO = text(
    "SELECT current_user AS role, current_setting('ibid.organization_id', true) AS organization,"
    " current_setting('ibid.origin', true) AS origin, current_setting('synchronous_commit') AS flush,"
    " current_setting('plan_cache_mode') AS plans,"
    " pg_backend_pid() AS pid"
)
_CHANGE = text("UPDATE sessions SET title = title WHERE id = 'none'")


async def who(session: DirectTransaction) -> tuple[str, ...]:
    row = (await session.execute(_WHO, {})).one()
    return (row.role, row.organization or "", row.flush, row.plans)


async def test_each_statement_alone_runs_as_whom_it_is_for_whatever_ran_before_on_the_connection(
    one_connection: Database,
) -> None:
    async def alone(principal: Principal) -> tuple[str, ...]:
        async with one_connection.single(principal) as session:
            await session.execute(_CHANGE, {})
            return await who(session)

    async def together(principal: Principal, *, flushed_later: bool = False) -> tuple[str, ...]:
        async with one_connection.direct(principal, flushed_later=flushed_later) as session:
            await session.execute(_CHANGE, {})
            return await who(session)

    async def looking_up() -> tuple[str, ...]:
        row = (await one_connection.look_ups.execute(_WHO, {})).one()
        return (row.role, row.organization or "", row.flush, row.plans)

    login = (await looking_up())[0]
    expected = {
        "alone": ("ibid_app", "{}", "on", "force_generic_plan"),
        "together": ("ibid_app", "{}", "on", "auto"),
        "together, flushed later": ("ibid_app", "{}", "off", "auto"),
        "looks up": (login, "", "on", "auto"),
    }
    orders = list(itertools.product(expected, (COMPANY, OTHERS)))
    for before, after in itertools.product(orders, orders):
        for kind, principal in (before, after):
            match kind:
                case "alone":
                    found = await alone(principal)
                case "together":
                    found = await together(principal)
                case "together, flushed later":
                    found = await together(principal, flushed_later=True)
                case _:
                    found = await looking_up()
            wanted = tuple(value.format(principal.organization_id) for value in expected[kind])
            assert found == wanted, (before, after)


async def test_a_statement_alone_has_no_origin_not_even_that_of_a_transaction_before(
    one_connection: Database,
) -> None:
    with origin.request("192.0.2.1"):
        origin.recognise(COMPANY)
        async with one_connection.direct(COMPANY) as session:
            assert json.loads((await session.execute(_WHO, {})).one().origin)["id"] == COMPANY.id
        async with one_connection.single(COMPANY) as session:
            assert not (await session.execute(_WHO, {})).one().origin


async def test_a_statement_alone_that_is_cancelled_or_fails_leaves_its_connection_as_good_as_before(
    one_connection: Database,
) -> None:
    async def sleep() -> None:
        async with one_connection.single(COMPANY) as session:
            await session.execute(_SLEEP, _NAP)

    sleeping = asyncio.create_task(sleep())
    await asyncio.sleep(0.3)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with one_connection.single(COMPANY) as session:
            await session.execute(text("SELECT 1 / :zero"), {"zero": 0})
    async with one_connection.single(OTHERS) as session:
        assert (await who(session))[:2] == ("ibid_app", "org_two")


async def test_a_connection_that_broke_while_it_stood_is_replaced(
    one_connection: Database, database: Database
) -> None:
    async with one_connection.single(COMPANY) as session:
        pid = (await session.execute(_WHO, {})).one().pid
    async with database.engine.begin() as connection:
        await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    await asyncio.sleep(0.3)
    async with one_connection.single(COMPANY) as session:
        assert (await session.execute(_WHO, {})).one().pid != pid


async def test_a_setting_of_one_lasts_no_longer_than_its_connection_stands(one_connection: Database) -> None:
    beam = text("SELECT current_setting('hnsw.ef_search')")
    async with one_connection.single(COMPANY) as session:
        await session.tune("hnsw.ef_search", "300")
    async with one_connection.single(COMPANY) as session:
        await session.tune("hnsw.ef_search", "300")
        assert await session.scalar(beam, {}) == "300"
    async with one_connection.direct(COMPANY) as session:
        assert await session.scalar(beam, {}) == "100"
        await session.tune("hnsw.ef_search", "200")
    async with one_connection.single(COMPANY) as session:
        assert await session.scalar(beam, {}) == "100"


async def test_those_of_different_organizations_at_once_never_run_as_each_other(database_url: str) -> None:
    database = open_database(database_url, pool_size=4)
    principals = [replace(COMPANY, organization_id=f"org_{number}") for number in range(12)]

    async def ask(number: int) -> None:
        principal = principals[number % len(principals)]
        opened = database.single(principal) if number % 3 else database.direct(principal)
        async with opened as session:
            assert (await who(session))[:2] == ("ibid_app", principal.organization_id)

    await asyncio.gather(*map(ask, range(400)))
    await database.close()


async def test_a_connection_stands_as_nobody_any_more_also_after_a_transaction_that_was_rolled_back(
    one_connection: Database,
) -> None:
    async def nobody() -> tuple[str, ...]:
        row = (await one_connection.look_ups.execute(_WHO, {})).one()
        return (row.role, row.organization or "", row.flush, row.plans)

    before = await nobody()
    async with one_connection.single(COMPANY) as session:
        await who(session)
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with one_connection.direct(OTHERS) as session:
            await session.execute(text("SELECT 1 / :zero"), {"zero": 0})
    assert await nobody() == before
