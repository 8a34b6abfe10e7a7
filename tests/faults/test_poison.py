"""A document whose workers all die of it: after five starts it has failed, and the worker after them lives."""

import asyncio
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.faults.cluster import Cluster
from tests.fixtures.provider import ScriptedProvider
from tests.fixtures.uploads import upload

START_SECONDS = 120
POISON = "Whoever works on this dies."


async def reached(cluster: Cluster, document_id: str, *, status: str, attempts: int) -> None:
    connection = await asyncpg.connect(cluster.db_url)
    try:
        async with asyncio.timeout(START_SECONDS):
            while True:
                row = await connection.fetchrow(
                    "SELECT status, attempts FROM documents WHERE id = $1", document_id
                )
                if (row["status"], row["attempts"]) == (status, attempts):
                    return
                assert row["status"] != "completed"
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_file_that_kills_its_worker_has_failed_after_five_starts(
    tmp_path: Path, provider: ScriptedProvider
) -> None:
    cluster = Cluster(tmp_path, provider.url, workers=1, lease_seconds=1)
    provider.endless.add(POISON)  # the worker is still at it when it is killed
    try:
        await asyncio.to_thread(cluster.start)
        async with httpx.AsyncClient(
            base_url=cluster.url, headers={"X-API-Key": cluster.key}, timeout=60, trust_env=False
        ) as client:
            poison = await upload(client, POISON.encode())
            for start in range(1, 6):
                await reached(cluster, poison, status="processing", attempts=start)
                await asyncio.to_thread(cluster.kill, "worker 0")
            await reached(cluster, poison, status="failed", attempts=6)  # the sixth looks, and does not begin
            document = (await client.get(f"/documents/{poison}")).json()
            assert document["error"]["code"] == "crashed_repeatedly"
            other = await upload(client, b"Nothing is wrong with this one.")
            async with asyncio.timeout(START_SECONDS):
                while (await client.get(f"/documents/{other}")).json()["status"] != "completed":
                    await asyncio.sleep(0.2)
            assert cluster.processes["worker 0"].poll() is None
    finally:
        provider.endless.clear()
        await asyncio.to_thread(cluster.close)
