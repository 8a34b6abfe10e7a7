"""Workers: what they do when they are asked to stop, when their work is taken away, and when it kills them."""

import asyncio
import contextlib
from datetime import timedelta

import psutil
from sqlalchemy import text

from app.core.counters import counters
from app.core.principal import SYSTEM
from app.db import queue
from app.db.models import Stage
from app.db.repositories.versions import VersionRepository
from app.services import processing
from app.worker import Worker, running
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service
from tests.fixtures.workers import PATIENCE_SECONDS, document_of, stored, until, with_settings, working


async def test_a_file_that_kills_whoever_touches_it_has_failed_after_five_starts(
    provider: ScriptedProvider, idle_service: Service
) -> None:
    runtime = idle_service.runtime
    _, organization_id = await idle_service.new_key()
    document_id = await stored(runtime, organization_id, b"The poison.")
    starts = 0
    for _ in range(5):  # each of them is claimed and never heard of again
        async with runtime.database.unit_of_work(SYSTEM) as session:
            claim = await queue.claim(session, claimed_by="dead", lease=timedelta(seconds=-1))
        starts += claim is not None

    async with working(runtime):
        document = await until(runtime, organization_id, document_id, "failed", "completed")

    assert starts == 5
    assert document.status == "failed"
    assert document.error is not None
    assert document.error["code"] == "crashed_repeatedly"
    assert provider.embedding_requests == 0


async def test_a_file_that_kills_its_parser_has_failed_after_five_starts(
    provider: ScriptedProvider, idle_service: Service
) -> None:
    runtime = idle_service.runtime
    _, organization_id = await idle_service.new_key()
    # Not in UTF-8, which is read without a child.
    long = "Long enough to be killed in time, naïve as it is. ".encode("latin-1") * 150_000
    document_id = await stored(runtime, organization_id, long)
    killed: set[int] = set()

    async with working(runtime):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (document := await document_of(runtime, organization_id, document_id)).status != "failed":
                killed |= kill_parsers()
                async with runtime.database.unit_of_work(SYSTEM) as session:  # pauses between starts are over
                    await session.execute(
                        text(
                            "UPDATE jobs SET available_at = now() WHERE document_id = :id AND claimed_by IS NULL"
                        ),
                        {"id": document_id},
                    )
        other = await stored(runtime, organization_id, b"Nothing is wrong with this one.")
        await until(runtime, organization_id, other, "completed")

    assert (document.attempts, len(killed)) == (5, 5)
    assert document.error is not None
    assert document.error["code"] == "parser_crashed"


def kill_parsers() -> set[int]:
    """The children of this process that read files, killed before they can answer."""
    killed = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(part.endswith("parsing/child.py") for part in child.cmdline()):
                child.kill()
                killed.add(child.pid)
    return killed


async def test_what_a_dead_worker_had_is_done_by_another_within_two_leases(
    provider: ScriptedProvider, idle_service: Service
) -> None:
    runtime = idle_service.runtime
    _, organization_id = await idle_service.new_key()
    document_id = await stored(runtime, organization_id, b"Begun by one and ended by another.")
    lease = timedelta(seconds=runtime.settings.job_lease_seconds)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        assert await queue.claim(session, claimed_by="dead", lease=lease) is not None
    began = asyncio.get_running_loop().time()

    async with working(runtime):
        document = await until(runtime, organization_id, document_id, "completed")

    assert document.attempts == 2
    assert asyncio.get_running_loop().time() - began >= lease.total_seconds() * 0.9


async def test_a_worker_that_is_asked_to_stop_finishes_what_it_has_begun_and_claims_no_more(
    provider: ScriptedProvider, idle_service: Service
) -> None:
    runtime = idle_service.runtime
    _, organization_id = await idle_service.new_key()
    provider.embedding_script.append(Reply(delay_seconds=1))
    first = await stored(runtime, organization_id, b"Finished although the worker is to stop.")
    worker = Worker(runtime, concurrency=1)
    task = asyncio.create_task(worker.run())
    await until(runtime, organization_id, first, "processing")
    second = await stored(runtime, organization_id, b"Left to the next worker.")

    worker.stop()
    await asyncio.wait_for(task, PATIENCE_SECONDS)

    assert (await document_of(runtime, organization_id, first)).status == "completed"
    assert (await document_of(runtime, organization_id, second)).status == "uploaded"
    async with working(runtime):
        assert (await until(runtime, organization_id, second, "completed")).attempts == 1


async def test_a_worker_without_time_hands_its_work_back(
    provider: ScriptedProvider, idle_service: Service
) -> None:
    runtime = idle_service.runtime
    _, organization_id = await idle_service.new_key()
    provider.embedding_script.append(Reply(delay_seconds=20))
    document_id = await stored(runtime, organization_id, b"Handed back in the middle.")
    async with running(runtime, concurrency=1, drain_seconds=0):
        await until(runtime, organization_id, document_id, "processing")

    handed_back = await document_of(runtime, organization_id, document_id)

    assert handed_back.status == "uploaded"
    async with working(runtime):
        assert (await until(runtime, organization_id, document_id, "completed")).attempts == 1


async def test_a_worker_that_slept_past_its_lease_changes_nothing(
    provider: ScriptedProvider, idle_service: Service
) -> None:
    runtime = idle_service.runtime
    _, organization_id = await idle_service.new_key()
    document_id = await stored(runtime, organization_id, b"Done twice with one effect.")
    async with runtime.database.unit_of_work(SYSTEM) as session:
        late = await queue.claim(session, claimed_by="late", lease=timedelta(seconds=-1))
    assert late is not None
    async with working(runtime):
        await until(runtime, organization_id, document_id, "completed")
    before = await document_of(runtime, organization_id, document_id)

    with contextlib.suppress(Exception):
        await processing.run(runtime, late, lambda _, __: None)

    after = await document_of(runtime, organization_id, document_id)
    assert (after.revision, after.chunk_count, after.updated_at) == (
        before.revision,
        before.chunk_count,
        before.updated_at,
    )


async def test_progress_waits_for_nobody_who_holds_the_document(idle_service: Service) -> None:
    runtime = idle_service.runtime
    _, organization_id = await idle_service.new_key()
    document_id = await stored(runtime, organization_id, b"Held while its progress is told.")
    async with runtime.database.unit_of_work(SYSTEM) as session:
        claim = await queue.claim(session, claimed_by="me", lease=timedelta(minutes=5))
    assert claim is not None
    principal = processing.principal_of(organization_id)

    async def tell(progress: float) -> bool:
        async with runtime.database.unit_of_work(principal) as session:
            versions = VersionRepository(session, principal)
            return await versions.show_progress(claim, Stage.EMBEDDING, progress)

    async with runtime.database.unit_of_work(principal) as session:
        assert await VersionRepository(session, principal).lock(claim) is not None
        assert await asyncio.wait_for(tell(0.5), PATIENCE_SECONDS)
    assert (await document_of(runtime, organization_id, document_id)).progress == 0
    assert await tell(0.5)
    assert (await document_of(runtime, organization_id, document_id)).progress == 0.5
    await processing.forget(runtime, claim)
    assert not await tell(0.6)


async def test_a_provider_that_stays_away_is_a_failure_in_the_end(
    provider: ScriptedProvider, idle_service: Service
) -> None:
    runtime = with_settings(idle_service, job_max_retries=0)
    _, organization_id = await idle_service.new_key()
    provider.embedding_script += [Reply(status=503, headers={"Retry-After": "0"})] * 3
    document_id = await stored(runtime, organization_id, b"Nobody embeds this.")

    async with working(runtime):
        document = await until(runtime, organization_id, document_id, "failed")

    assert document.error is not None
    assert (document.error["code"], document.error["retryable"]) == ("provider_unavailable", True)


async def test_files_are_not_kept_where_the_operator_says_so(
    provider: ScriptedProvider, idle_service: Service
) -> None:
    runtime = with_settings(idle_service, keep_original_files=False)
    _, organization_id = await idle_service.new_key()
    before = await runtime.originals.keys()
    document_id = await stored(runtime, organization_id, b"Read once, then gone.")
    assert len(await runtime.originals.keys() - before) == 1

    async with working(runtime):
        document = await until(runtime, organization_id, document_id, "completed")
    async with working(runtime):  # begins by removing what nobody has any more
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await runtime.originals.keys() - before:
                await asyncio.sleep(0.05)

    assert (document.storage_key, document.chunk_count) == (None, 1)


async def test_what_workers_do_is_counted(provider: ScriptedProvider, idle_service: Service) -> None:
    runtime = idle_service.runtime
    _, organization_id = await idle_service.new_key()
    before = counters.get("ingestion_documents", outcome="completed")
    document_id = await stored(runtime, organization_id, b"Counted.")

    async with working(runtime):
        await until(runtime, organization_id, document_id, "completed")

    assert counters.get("ingestion_documents", outcome="completed") == before + 1
    assert counters.get("ingestion_stage_seconds", stage="embedding") > 0
