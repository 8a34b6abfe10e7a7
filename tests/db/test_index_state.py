"""The lock that keeps a switch of the index and whoever stores chunks apart."""

import asyncio

from sqlalchemy import text

from app.core.principal import SYSTEM
from app.db.engine import Database
from app.db.repositories import index_state

HOLD = text("SELECT hold_index()")


async def test_a_switch_waits_for_those_who_store_for_as_long_as_it_is_told(database: Database) -> None:
    async with database.unit_of_work(SYSTEM) as switching:
        async with database.unit_of_work(SYSTEM) as storing:
            await storing.execute(HOLD)
            assert not await index_state.try_to_lock(switching)
            assert not await index_state.lock(switching, within_seconds=0.1)
            waiting = asyncio.create_task(index_state.lock(switching, within_seconds=60))
            async with database.unit_of_work(SYSTEM) as looking:
                while not await looking.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                    await asyncio.sleep(0.02)
            assert not waiting.done()
        assert await waiting
        assert await switching.scalar(text("SHOW lock_timeout")) == "0"


async def test_those_who_store_come_after_a_switch_that_waits(database: Database) -> None:
    async with database.unit_of_work(SYSTEM) as first:
        await first.execute(HOLD)
        async with database.unit_of_work(SYSTEM) as switching:
            waiting = asyncio.create_task(index_state.lock(switching, within_seconds=60))
            async with database.unit_of_work(SYSTEM) as looking:
                waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                while not await looking.scalar(waits):
                    await asyncio.sleep(0.02)
                later = asyncio.create_task(_hold(database))
                while await looking.scalar(waits) < 2:
                    await asyncio.sleep(0.02)
            await first.commit()
            assert await waiting
            assert not later.done()
        await later


async def _hold(database: Database) -> None:
    async with database.unit_of_work(SYSTEM) as session:
        await session.execute(HOLD)
