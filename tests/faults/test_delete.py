"""Documents are deleted while they are being processed: nothing of one that is gone is ever found again."""

import asyncio
import random
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.core.principal import SYSTEM
from app.services import files
from tests.fixtures.provider import ScriptedProvider
from tests.fixtures.service import Service
from tests.fixtures.uploads import found, upload
from tests.fixtures.workers import working

LEFT = (
    "SELECT count(*) FROM documents WHERE organization_id = :id",
    "SELECT count(*) FROM pages WHERE organization_id = :id",
    "SELECT count(*) FROM chunks WHERE organization_id = :id",
    "SELECT count(*) FROM jobs WHERE organization_id = :id",
    "SELECT count(*) FROM file_deletions WHERE organization_id = :id",
)


async def race(client: httpx.AsyncClient, number: int, chance: random.Random) -> None:
    """Upload, delete at some moment of the processing, and look for it from then on."""
    word = f"zebra{number}quagga"
    content = f"{word} stands in this file. " + "Filler sentence of some length. " * chance.choice(
        [1, 50, 500]
    )
    document_id = await upload(client, content.encode(), f"{number}.txt")
    if chance.random() < 0.3:
        await upload(client, content.encode() + b"And again.", f"{number}.txt", document_id=document_id)
    await asyncio.sleep(chance.choice([0, 0.05, 0.1, 0.2, 0.4, 0.8]) * chance.random())

    response = await client.delete(f"/documents/{document_id}")

    assert response.status_code == 204
    for pause in (0, 0.1, 0.3):
        await asyncio.sleep(pause)
        hits = [hit for hit in await found(client, word) if word in hit["text"]]
        assert hits == [], number
    assert (await client.get(f"/documents/{document_id}")).status_code == 404


async def delete_rounds(service: Service, rounds: int) -> None:
    runtime = service.runtime
    key, organization_id = await service.new_key()
    before = await runtime.originals.keys()
    chance = random.Random(3)
    async with service.client(key) as client, working(runtime):
        for start in range(0, rounds, 5):
            numbers = range(start, min(start + 5, rounds))
            await asyncio.gather(
                *(race(client, number, random.Random(chance.random())) for number in numbers)
            )
        await files.sweep(runtime)
    left: dict[str, Any] = {}
    async with runtime.database.unit_of_work(SYSTEM) as session:
        for query in LEFT:
            left[query] = await session.scalar(text(query), {"id": organization_id})
    assert not any(left.values()), left
    assert await runtime.originals.keys() == before


async def test_nothing_is_left_of_what_was_deleted_in_the_middle(
    provider: ScriptedProvider, idle_service: Service
) -> None:
    await delete_rounds(idle_service, 20)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_nothing_is_left_after_two_hundred_races(
    provider: ScriptedProvider, idle_service: Service
) -> None:
    await delete_rounds(idle_service, 200)
