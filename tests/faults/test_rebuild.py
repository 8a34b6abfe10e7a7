"""Workers die while they build the index anew under traffic: others go on where they were, and nobody who asks notices."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.faults.cluster import Cluster
from tests.fixtures.provider import ScriptedProvider
from tests.fixtures.traffic import Traffic

OTHER_MODEL = "scripted-embedding:64"
END_SECONDS = 240
ENDLESS = "Embedding this takes long."


async def in_state(client: httpx.AsyncClient, *states: str) -> dict[str, Any]:
    async with asyncio.timeout(END_SECONDS):
        while True:
            rebuild: dict[str, Any] = (await client.get("/admin/index/rebuild")).json()
            if rebuild["state"] in states:
                return rebuild
            await asyncio.sleep(0.1)


async def superadmin_of(cluster: Cluster) -> httpx.AsyncClient:
    client = httpx.AsyncClient(base_url=cluster.url, timeout=60, trust_env=False)
    form = {"username": "admin@example.com", "password": cluster.settings["SUPERADMIN_PASSWORD"]}
    login = await client.post("/auth/login", data=form)
    assert login.status_code == 200, login.text
    client.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
    return client


async def rebuild_under_fire(
    folder: Path, provider: ScriptedProvider, *, documents: int, kills: int
) -> tuple[Traffic, Cluster]:
    cluster = Cluster(folder, provider.url, workers=2, lease_seconds=2)
    cluster.settings |= {
        "SUPERADMIN_PASSWORD": "a password of this test",
        "INDEX_KEEP_SECONDS": "4",
        "CHAT_MODEL": "extractive",
        **{f"RATE_LIMIT_{name}": "off" for name in ("LOGIN", "CHAT", "SEARCH", "INGEST")},
    }
    try:
        await asyncio.to_thread(cluster.start)
        async with contextlib.aclosing(await superadmin_of(cluster)) as client:
            kept = [f"Kept {number}: the valve of unit {number} is green." for number in range(documents)]
            traffic = Traffic(client, kept)
            await traffic.begin()
            assert (await client.post("/ingest", json={"text": ENDLESS})).status_code == 200
            provider.embedding_delays[OTHER_MODEL] = 0.3  # so that there is a middle to die in
            provider.endless.add(ENDLESS)  # and no end before the last one has died
            async with traffic.flowing():
                started = await client.post("/admin/index/rebuild", json={"embedding_model": OTHER_MODEL})
                assert started.status_code == 202, started.text
                for kill in range(kills):
                    await asyncio.sleep(1.5)
                    await asyncio.to_thread(cluster.kill, f"worker {kill % 2}")
                    assert (await client.get("/admin/index/rebuild")).json()["state"] == "running"
                provider.embedding_delays.clear()
                provider.endless.clear()
                await in_state(client, "switched", "completed")
                # The removal of what was served before is killed too.
                await asyncio.to_thread(cluster.kill, "worker 0")
                await in_state(client, "completed")
            await traffic.check()
            problems = (await client.get("/admin/index/health")).json()["problems"]
            assert {problem["name"] for problem in problems} <= {"stale_statistics"}  # counted once a minute
        connection = await asyncpg.connect(cluster.db_url)
        try:
            dimensions = await connection.fetch(
                "SELECT vector_dims(embedding), count(*) FROM chunks GROUP BY 1"
            )
            places = await connection.fetchval(
                "SELECT count(*) - count(DISTINCT (document_id, ordinal)) FROM chunks"
            )
            claims = await connection.fetchval("SELECT count(*) FROM rebuild_claims")
        finally:
            await connection.close()
        assert [tuple(row) for row in dimensions] == [(64, 1 + len(kept) + len(traffic.added))]
        assert (places, claims) == (0, 0)
        return traffic, cluster
    finally:
        await asyncio.to_thread(cluster.close)


@pytest.mark.timeout(400)
async def test_a_rebuild_outlives_its_workers_and_fails_no_question(
    tmp_path: Path, provider: ScriptedProvider
) -> None:
    traffic, _ = await rebuild_under_fire(tmp_path, provider, documents=40, kills=2)

    assert traffic.failures == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_ten_kills_in_a_rebuild_of_a_thousand_documents(
    tmp_path: Path, provider: ScriptedProvider
) -> None:
    traffic, cluster = await rebuild_under_fire(tmp_path, provider, documents=1000, kills=10)

    print(
        f"\nkilled {cluster.kills}, {traffic.asked} questions, {len(traffic.added)} texts meanwhile, 0 failures"
    )
    assert traffic.failures == []
