"""The index is built anew beside the one that is served, by another model or in other chunks, and nobody notices."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy import text

from app.core.config import Settings
from app.core.principal import SYSTEM, Role
from tests.fixtures.accounts import Person, new_person
from tests.fixtures.postgres import MakeDatabase
from tests.fixtures.provider import ScriptedProvider
from tests.fixtures.service import Service, make_settings, running
from tests.fixtures.traffic import Traffic
from tests.fixtures.uploads import ended, found, upload

PATIENCE_SECONDS = 240
"""Of what takes a few seconds on a machine that has nothing else to do."""

pytestmark = pytest.mark.timeout(2 * PATIENCE_SECONDS)

OTHER_MODEL = "scripted-embedding:64"
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
READERS = "SELECT count(*) FROM pg_locks WHERE relation = 'pages'::regclass AND NOT granted"


def settings_for(database_url: str, provider: ScriptedProvider, **others: Any) -> Settings:
    return make_settings(
        DB_URL=database_url,
        openai_api_key="sk-test",
        openai_base_url=provider.url,
        embedding_model="scripted-embedding",
        chat_model="extractive",
        index_keep_seconds=2,
        **others,
    )


@pytest.fixture
async def rebuildable(make_database: MakeDatabase, provider: ScriptedProvider) -> AsyncIterator[Service]:
    settings = settings_for(await make_database(), provider)
    async with running(settings) as service:
        yield service


@pytest.fixture
async def superadmin(rebuildable: Service) -> AsyncIterator[httpx.AsyncClient]:
    person = await new_person(rebuildable, Role.SUPERADMIN)
    async with client_of(rebuildable, person) as client:
        yield client


def client_of(service: Service, person: Person) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=service.url, headers=person.headers, timeout=60, trust_env=False)


async def over(client: httpx.AsyncClient, *states: str) -> dict[str, Any]:
    """The rebuild, once it is in one of these states."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            rebuild: dict[str, Any] = (await client.get("/admin/index/rebuild")).json()
            if rebuild["state"] in states:
                return rebuild
            assert rebuild["state"] != "failed", rebuild["error"]
            await asyncio.sleep(0.1)


def database_of(service: Service) -> str:
    url = service.runtime.settings.db_url
    assert url is not None
    return url.get_secret_value()


async def builds(service: Service) -> dict[str, int]:
    """How many chunks there are of each build of the index, by the length of their vectors."""
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        rows = await session.execute(
            text("SELECT embedding_model, vector_dims(embedding), count(*) FROM chunks GROUP BY 1, 2")
        )
        return {f"{name}|{dimension}": count for name, dimension, count in rows}


async def test_the_model_and_its_dimension_change_under_the_documents(
    rebuildable: Service, superadmin: httpx.AsyncClient
) -> None:
    texts = [f"Machine {number} stands in hall {number}." for number in range(12)]
    for sentence in texts:
        assert (await superadmin.post("/ingest", json={"text": sentence})).status_code == 200
    before = await builds(rebuildable)

    started = await superadmin.post("/admin/index/rebuild", json={"embedding_model": OTHER_MODEL})
    assert started.status_code == 202, started.text
    assert (started.json()["dimension"], started.json()["scope"]) == (64, "installation")
    again = await superadmin.post("/admin/index/rebuild", json={"embedding_model": OTHER_MODEL})
    assert again.json()["id"] == started.json()["id"]
    ended_rebuild = await over(superadmin, "completed")

    assert (ended_rebuild["documents_done"], ended_rebuild["progress"]) == (12, 1.0)
    after = await builds(rebuildable)
    assert [key.rpartition("|")[2] for key in before] == ["256"]
    assert [key.rpartition("|")[2] for key in after] == ["64"]
    assert sum(after.values()) == 12
    for sentence in texts:
        hits = await found(superadmin, sentence)
        assert hits[0]["text"] == sentence
    assert (await superadmin.get("/admin/index/health")).json()["problems"] == []
    assert (await superadmin.post("/ingest", json={"text": "One more after it."})).status_code == 200
    assert (await found(superadmin, "one more"))[0]["text"] == "One more after it."


async def test_other_chunk_sizes_are_switched_at_once_too(
    rebuildable: Service, superadmin: httpx.AsyncClient
) -> None:
    long_text = " ".join(f"Sentence number {number} says little." for number in range(200))
    made = (await superadmin.post("/ingest", json={"text": long_text})).json()
    before = (await superadmin.get(f"/documents/{made['document_id']}")).json()["chunks"]

    body = {"chunking": {"size_tokens": 40, "overlap_tokens": 0}}
    assert (await superadmin.post("/admin/index/rebuild", json=body)).status_code == 202
    await over(superadmin, "completed")

    document = (await superadmin.get(f"/documents/{made['document_id']}")).json()
    assert document["chunks"] > 3 * before
    chunks = (await superadmin.get(f"/documents/{made['document_id']}/chunks", params={"limit": 200})).json()
    assert len(chunks) == min(200, document["chunks"])
    assert (await superadmin.get("/admin/index/health")).json()["problems"] == []
    # What comes afterwards is cut so too.
    other = (await superadmin.post("/ingest", json={"text": long_text + " And an end."})).json()
    again = (await superadmin.get(f"/documents/{other['document_id']}")).json()["chunks"]
    assert abs(again - document["chunks"]) <= 2


async def test_nothing_fails_while_it_is_under_way(
    rebuildable: Service, superadmin: httpx.AsyncClient
) -> None:
    traffic = Traffic(
        superadmin, [f"Kept {number}: the valve of unit {number} is green." for number in range(30)]
    )
    await traffic.begin()

    async with traffic.flowing():
        await superadmin.post("/admin/index/rebuild", json={"embedding_model": OTHER_MODEL})
        await over(superadmin, "completed")

    assert traffic.failures == []
    await traffic.check()
    after = await builds(rebuildable)
    assert [key.rpartition("|")[2] for key in after] == ["64"]
    assert sum(after.values()) == len(traffic.kept) + len(traffic.added)


async def test_a_document_deleted_while_it_is_read_does_not_stop_it(
    rebuildable: Service, superadmin: httpx.AsyncClient
) -> None:
    for sentence in ("This one stays.", "This one goes."):
        made = await superadmin.post("/ingest", json={"text": sentence})
        assert made.status_code == 200
    connection = await asyncpg.connect(database_of(rebuildable))
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE pages IN ACCESS EXCLUSIVE MODE")
            await superadmin.post("/admin/index/rebuild", json={"embedding_model": OTHER_MODEL})
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await connection.fetchval(READERS) < 2:
                    await asyncio.sleep(0.05)
            await connection.execute("DELETE FROM documents WHERE id = $1", made.json()["document_id"])
    finally:
        await connection.close()

    ended_rebuild = await over(superadmin, "completed", "failed")

    assert (ended_rebuild["state"], ended_rebuild["error"]) == ("completed", None)
    assert (await found(superadmin, "this one stays"))[0]["text"] == "This one stays."


async def test_it_ends_while_documents_come_faster_than_it_has_a_moment_without_any(
    rebuildable: Service, superadmin: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    stopped = asyncio.Event()
    sent: list[str] = []

    async def send() -> None:
        for count in itertools.count():
            if stopped.is_set():
                return
            answer = await superadmin.post("/ingest", json={"text": f"The stream brings text {count}."})
            assert answer.status_code == 200, answer.text
            sent.append(answer.json()["document_id"])
            await asyncio.sleep(0.5)

    provider.embedding_delays[OTHER_MODEL] = 0.8  # of two at a time there is always one under way
    stream = asyncio.create_task(send())
    started = await superadmin.post("/admin/index/rebuild", json={"embedding_model": OTHER_MODEL})
    assert started.status_code == 202
    try:
        await over(superadmin, "completed")
    finally:
        stopped.set()
        await stream

    after = await builds(rebuildable)
    assert [key.rpartition("|")[2] for key in after] == ["64"]
    assert sum(after.values()) == len(sent)


async def test_whoever_stores_a_text_builds_one_for_a_rebuild_that_falls_behind(
    make_database: MakeDatabase, provider: ScriptedProvider
) -> None:
    nobody_else_builds = {"worker_concurrency": 0}
    settings = settings_for(await make_database(), provider, **nobody_else_builds)
    async with running(settings) as service:
        person = await new_person(service, Role.SUPERADMIN)
        async with client_of(service, person) as superadmin:

            async def store(*texts: str) -> list[int]:
                sent = [superadmin.post("/ingest", json={"text": text}) for text in texts]
                return [answer.status_code for answer in await asyncio.gather(*sent)]

            before = await store(*(f"Text {number} was there before." for number in range(6)))
            await superadmin.post("/admin/index/rebuild", json={"embedding_model": OTHER_MODEL})
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not service.runtime.live.room.is_behind:
                    await asyncio.sleep(0.1)
            meanwhile = await store(*(f"Text {number} came meanwhile." for number in range(4)))
            told = (await superadmin.get("/admin/index/rebuild")).json()
            provider.models_away.add(OTHER_MODEL)
            in_vain = await store("Nobody can embed for the rebuild now.")
            provider.models_away.clear()
            held_up = (await superadmin.get("/admin/index/rebuild")).json()

    assert {*before, *meanwhile, *in_vain} == {200}
    assert (told["documents_done"], told["documents_total"]) == (4, 6)
    assert (held_up["documents_done"], held_up["error"]["code"]) == (4, "provider_unavailable")


async def test_questions_are_answered_while_a_switch_lets_many_texts_wait(
    rebuildable: Service, superadmin: httpx.AsyncClient
) -> None:
    await superadmin.post("/ingest", json={"text": "Found meanwhile."})
    texts = [f"Text {number} waits for the switch." for number in range(30)]
    connection = await asyncpg.connect(database_of(rebuildable))
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('ibid index switch'))")
            sending = [asyncio.create_task(superadmin.post("/ingest", json={"text": text})) for text in texts]
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await connection.fetchval(WAITING):
                    await asyncio.sleep(0.05)
            hits = await found(superadmin, "found meanwhile")
            assert not any(task.done() for task in sending)
    finally:
        await connection.close()
    assert hits[0]["text"] == "Found meanwhile."
    assert [answer.status_code for answer in await asyncio.gather(*sending)] == [200] * len(texts)


async def test_a_cancelled_rebuild_leaves_what_was_served(
    rebuildable: Service, superadmin: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    for number in range(5):
        await superadmin.post("/ingest", json={"text": f"Text {number} stays as it is."})
    before = await builds(rebuildable)
    provider.endless.add("Text 3 stays as it is.")
    await superadmin.post("/admin/index/rebuild", json={"embedding_model": OTHER_MODEL})
    refused = await superadmin.post("/admin/index/rebuild", json={"embedding_model": "scripted-embedding:32"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "rebuild_under_way")

    cancelled = await superadmin.delete("/admin/index/rebuild")

    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelling")
    ended_rebuild = await over(superadmin, "cancelled")
    assert ended_rebuild["ended_at"]
    provider.endless.clear()
    await asyncio.sleep(1)  # what was being embedded is done by now, and not stored
    assert await builds(rebuildable) == before
    again = await superadmin.delete("/admin/index/rebuild")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "no_rebuild")
    assert len(await found(superadmin, "text stays")) == 5


async def test_a_provider_that_is_away_holds_a_rebuild_up_and_is_told(
    rebuildable: Service, superadmin: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    provider.models_away.add(OTHER_MODEL)
    await superadmin.post("/ingest", json={"text": "Found whoever is away."})
    refused = await superadmin.post("/admin/index/rebuild", json={"embedding_model": OTHER_MODEL})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "provider_unavailable")
    provider.models_away.clear()
    provider.embedding_delays[OTHER_MODEL] = 1
    await superadmin.post("/admin/index/rebuild", json={"embedding_model": OTHER_MODEL})
    provider.models_away.add(OTHER_MODEL)

    async with asyncio.timeout(PATIENCE_SECONDS):
        while (told := (await superadmin.get("/admin/index/rebuild")).json())["error"] is None:
            await asyncio.sleep(0.1)
    assert (told["state"], told["error"]["code"]) == ("running", "provider_unavailable")
    assert len(await found(superadmin, "found")) == 1

    provider.models_away.clear()
    assert (await over(superadmin, "completed"))["error"] is None
    assert len(await found(superadmin, "found")) == 1


async def test_an_impossible_target_is_refused(superadmin: httpx.AsyncClient) -> None:
    for body in (
        {"embedding_model": "scripted-embedding:5000"},
        {"embedding_model": "local", "dimension": 100},
        {"dimension": 13},
        {"chunking": {"size_tokens": 100, "overlap_tokens": 90}},
        {"chunking": {"splitter": "lines"}},
        {"embedding_model": "x", "scope": "organization"},
        {"chunking": {"size_tokens": 3}},
        {"model": "x"},
    ):
        refused = await superadmin.post("/admin/index/rebuild", json=body)
        assert refused.status_code in (400, 422), (body, refused.text)
    assert (await superadmin.get("/admin/index/rebuild")).status_code == 404


async def test_an_organizations_admin_has_its_own_documents_chunked_anew(
    rebuildable: Service, superadmin: httpx.AsyncClient
) -> None:
    long_text = " ".join(f"Sentence number {number} says little." for number in range(200))
    key, _ = await rebuildable.new_key()
    async with rebuildable.client(key) as admin:
        ours = (await admin.post("/ingest", json={"text": long_text})).json()["document_id"]
        file = await upload(admin, long_text.encode() + b" As a file.", "long.txt")
        await ended(admin, file)
        theirs = (await superadmin.post("/ingest", json={"text": long_text})).json()["document_id"]
        before = (await admin.get(f"/documents/{ours}")).json()["chunks"]

        for body in ({"embedding_model": OTHER_MODEL}, {"scope": "installation"}):
            refused = await admin.post("/admin/index/rebuild", json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "superadmin_required")
        started = await admin.post(
            "/admin/index/rebuild", json={"chunking": {"size_tokens": 40, "splitter": "sentences"}}
        )
        assert (started.status_code, started.json()["scope"]) == (202, "organization")
        done = await over(admin, "completed")

        assert (done["documents_done"], done["documents_total"]) == (2, 2)
        for document_id in (ours, file):
            document = (await admin.get(f"/documents/{document_id}")).json()
            assert document["status"] == "completed"
            assert document["chunks"] > 2 * before
    assert (await superadmin.get(f"/documents/{theirs}")).json()["chunks"] == before
