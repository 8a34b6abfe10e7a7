"""Stopping the service while it answers: what ends in time ends well, and what does not is told so and kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from app.core.principal import SYSTEM
from tests.api.test_provider_chat import QUESTION, events_of, ingest
from tests.fixtures.postgres import MakeDatabase, open_database
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service, make_settings, running

SLOW = Reply(("One ", "two ", *("more " * 200).split(" ")), pause_seconds=0.3)


@asynccontextmanager
async def stopping(
    database_url: str, provider: ScriptedProvider, *, seconds: int
) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    """A service that begins to stop when the block ends, and a client of it."""
    settings = make_settings(
        DB_URL=database_url,
        openai_api_key="sk-test-provider-key",
        openai_base_url=provider.url,
        embedding_model="scripted-embedding",
        provider_first_token_timeout_seconds=60,
        shutdown_timeout_seconds=seconds,
    )
    async with running(settings) as service:
        key, _ = await service.new_key()
        client = service.client(key)
        await ingest(client)
        yield service, client


async def statuses(database_url: str) -> list[tuple[str, str]]:
    database = open_database(database_url)
    async with database.unit_of_work(SYSTEM) as session:
        connection = await session.connection()
        rows = await connection.exec_driver_sql(
            "SELECT status, content FROM messages WHERE role = 'assistant'"
        )
        found = [(row.status, row.content) for row in rows]
    await database.close()
    return found


async def until_asked(provider: ScriptedProvider) -> None:
    while not provider.chats:
        await asyncio.sleep(0.02)


@pytest.fixture
async def database_url(make_database: MakeDatabase) -> str:
    return await make_database()


async def test_a_stream_that_outlives_the_shutdown_ends_with_an_error_event(
    database_url: str, provider: ScriptedProvider
) -> None:
    provider.default = SLOW

    async def listen(client: httpx.AsyncClient) -> tuple[int, str]:
        response = await client.post("/chat", json={"message": QUESTION, "stream": True})
        return response.status_code, response.text

    async with stopping(database_url, provider, seconds=1) as (_, client):
        listening = asyncio.create_task(listen(client))
        await until_asked(provider)
        await asyncio.sleep(1)
    status, text = await listening
    await client.aclose()
    events = events_of(text)

    assert status == 200
    assert [event["type"] for event in events[:2]] == ["session", "sources"]
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["code"] == "service_stopping"
    assert [event["type"] for event in events].count("error") == 1
    said = "".join(event["delta"] for event in events if event["type"] == "delta")
    [(stored_as, content)] = await statuses(database_url)
    assert stored_as == "interrupted"
    assert said
    assert content.startswith(said.strip())


async def test_an_answer_that_is_not_streamed_is_refused_when_time_is_over(
    database_url: str, provider: ScriptedProvider
) -> None:
    provider.default = Reply(delay_seconds=30)
    async with stopping(database_url, provider, seconds=1) as (_, client):
        asking = asyncio.create_task(client.post("/chat", json={"message": QUESTION}))
        await until_asked(provider)
    response = await asking
    await client.aclose()

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "service_stopping"
    assert int(response.headers["retry-after"]) >= 1
    assert [status for status, _ in await statuses(database_url)] == ["interrupted"]


async def test_a_stream_that_ends_in_time_ends_well(database_url: str, provider: ScriptedProvider) -> None:
    provider.default = Reply(("One ", "two ", "three."), pause_seconds=0.5)
    async with stopping(database_url, provider, seconds=60) as (_, client):
        asking = asyncio.create_task(client.post("/chat", json={"message": QUESTION, "stream": True}))
        await until_asked(provider)
    events = events_of((await asking).text)
    await client.aclose()

    assert events[-1]["type"] == "done"
    assert [status for status, _ in await statuses(database_url)] == ["complete"]
