"""The queue: one holder at a time, a fence around what it writes, turns between organizations."""

import asyncio
from collections import Counter
from datetime import timedelta

from sqlalchemy import text

from app.core import ids
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.db import queue
from app.db.engine import Database
from app.db.queue import Claim
from app.db.repositories.identity import IdentityRepository
from app.db.repositories.places import PlaceRepository
from app.db.repositories.versions import VersionRepository
from tests.fixtures.postgres import open_database

LEASE = timedelta(seconds=60)


async def organization(database: Database) -> Principal:
    async with database.unit_of_work(SYSTEM) as session:
        organization_id = await IdentityRepository(session).add_organization("O")
    return Principal(PrincipalKind.OPERATOR, "op", organization_id, Role.ADMIN, ALL_SCOPES)


async def enqueue(database: Database, principal: Principal, *, seconds_behind: float = 0) -> str:
    """A document that waits to be processed."""
    document_id = ids.new(ids.Prefix.DOCUMENT)
    async with database.unit_of_work(principal) as session:
        values = {
            "id": document_id,
            "collection_id": await PlaceRepository(session, principal).default_id(),
            "title": "T",
            "content_type": "text/plain",
            "size_bytes": 1,
            "sha256": document_id,
        }
        document = await VersionRepository(session, principal).add_uploaded(values)
        assert document is not None
        await queue.enqueue(
            session,
            document_id=document_id,
            organization_id=principal.organization,
            generation=document.generation,
            behind=timedelta(seconds=seconds_behind),
        )
    return document_id


async def claim(database: Database, by: str = "worker", lease: timedelta = LEASE) -> Claim | None:
    async with database.unit_of_work(SYSTEM) as session:
        return await queue.claim(session, claimed_by=by, lease=lease)


async def test_a_job_has_one_holder_however_many_want_it(database_url: str) -> None:
    database = open_database(database_url, pool_size=10)
    principal = await organization(database)
    wanted = {await enqueue(database, principal) for _ in range(30)}
    taken: list[str] = []

    async def work(number: int) -> None:
        misses = 0
        while misses < 5:
            claimed = await claim(database, f"worker {number}")
            if claimed is None:
                misses += 1
                await asyncio.sleep(0.02)
            else:
                taken.append(claimed.document_id)

    await asyncio.gather(*(work(number) for number in range(8)))

    assert Counter(taken) == Counter(wanted)
    await database.close()


async def test_a_claim_that_is_not_kept_is_anybodys_again_and_its_old_holder_writes_nothing(
    database: Database,
) -> None:
    principal = await organization(database)
    await enqueue(database, principal)
    first = await claim(database, "dead", lease=timedelta(seconds=-1))
    second = await claim(database, "alive")

    assert first is not None
    assert second is not None
    assert (first.document_id, second.attempts, second.crashes) == (second.document_id, 2, 1)
    async with database.unit_of_work(principal) as session:
        assert not await queue.extend(session, first, lease=LEASE)
        assert not await queue.postpone(session, first, pause=LEASE)
        assert not await queue.release(session, first)
        assert not await queue.finish(session, first)
        assert await queue.finish(session, second)
    assert await claim(database) is None


async def test_a_new_generation_takes_the_job_from_its_holder(database: Database) -> None:
    principal = await organization(database)
    document_id = await enqueue(database, principal)
    old = await claim(database, "old")
    assert old is not None
    async with database.unit_of_work(principal) as session:
        started = await VersionRepository(session, principal).start_again(document_id, {})
        assert started is not None
        await queue.enqueue(
            session,
            document_id=document_id,
            organization_id=principal.organization,
            generation=started.generation,
        )

    new = await claim(database, "new")

    assert new is not None
    assert (new.generation, new.attempts) == (old.generation + 1, 1)
    async with database.unit_of_work(principal) as session:
        assert await VersionRepository(session, principal).lock(old) is None
        assert not await queue.finish(session, old)


async def test_what_ended_in_order_is_no_crash(database: Database) -> None:
    principal = await organization(database)
    await enqueue(database, principal)
    for number in range(3):
        claimed = await claim(database)
        assert claimed is not None
        assert (claimed.attempts, claimed.crashes) == (number + 1, 0)
        async with database.unit_of_work(principal) as session:
            assert await queue.postpone(session, claimed, pause=timedelta(seconds=-1))
    handed_back = await claim(database)
    assert handed_back is not None
    async with database.unit_of_work(principal) as session:
        assert await queue.release(session, handed_back)
    again = await claim(database)
    assert again is not None
    assert (again.attempts, again.crashes) == (handed_back.attempts, 0)


async def test_a_long_import_of_one_organization_does_not_hold_up_another(database: Database) -> None:
    large, small = await organization(database), await organization(database)
    for _ in range(20):
        await enqueue(database, large)
    for _ in range(3):
        await enqueue(database, small)

    order: list[str] = []
    for _ in range(8):
        claimed = await claim(database)
        assert claimed is not None
        order.append(claimed.organization_id)
        async with database.unit_of_work(SYSTEM) as session:
            assert await queue.finish(session, claimed)

    assert order[:6].count(small.organization) == 3
    assert order[6:] == [large.organization] * 2


async def test_who_has_more_running_comes_later(database: Database) -> None:
    busy, idle = await organization(database), await organization(database)
    for _ in range(4):
        await enqueue(database, busy)
    for _ in range(3):
        assert await claim(database) is not None
    for _ in range(2):
        await enqueue(database, idle)

    following = [await claim(database) for _ in range(3)]

    assert [c and c.organization_id for c in following] == [
        idle.organization,
        idle.organization,
        busy.organization,
    ]


async def test_small_files_come_before_large_ones(database: Database) -> None:
    principal = await organization(database)
    large = await enqueue(database, principal, seconds_behind=600)
    small = await enqueue(database, principal)

    claimed = [await claim(database), await claim(database)]

    assert [c and c.document_id for c in claimed] == [small, large]


async def test_a_document_that_is_being_deleted_is_passed_over_and_nobody_waits(database: Database) -> None:
    principal = await organization(database)
    doomed, other = await enqueue(database, principal), await enqueue(database, principal)
    async with database.unit_of_work(principal) as deleting:
        await deleting.execute(text("DELETE FROM documents WHERE id = :id"), {"id": doomed})

        claimed = await asyncio.wait_for(claim(database), 10)

    assert claimed is not None
    assert claimed.document_id == other
    assert await claim(database) is None


async def test_the_backlog_is_counted(database: Database) -> None:
    principal = await organization(database)
    for _ in range(3):
        await enqueue(database, principal)
    claimed = await claim(database)
    assert claimed is not None

    async with database.unit_of_work(SYSTEM) as session:
        backlog = await queue.backlog(session)

    assert (backlog.ready, backlog.running, backlog.postponed) == (2, 1, 0)
    assert backlog.oldest_ready_seconds >= 0
