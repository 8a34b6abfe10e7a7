"""Direct transactions share a bounded number of connections, and give each back clean, whatever ended them."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from app.core.principal import SYSTEM
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
