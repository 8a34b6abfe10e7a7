"""Providers that never come to an end: what they send is read up to a limit, and the turn ends with an error."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from app.rag import chat_replies, llms, provider_http
from tests.api.test_provider_chat import QUESTION, events_of, ingest
from tests.fixtures.provider import ScriptedProvider
from tests.fixtures.service import serving

PIECE = b" " * 65_536
WORDS = (
    b"data: "
    + json.dumps({"choices": [{"index": 0, "delta": {"content": "word " * 1000}}]}).encode()
    + b"\n\n"
)


@dataclass
class Endless:
    """What is sent again and again, and how many bytes were taken of it."""

    url: str
    content: bytes
    taken: int = 0
    has_ended: bool = False


@asynccontextmanager
async def endless(content: bytes) -> AsyncIterator[Endless]:
    made = Endless("", content)

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield made.content
                made.taken += len(made.content)
                await asyncio.sleep(0)
        finally:
            made.has_ended = True

    async def answer(_: Request) -> StreamingResponse:
        return StreamingResponse(pieces(), media_type="application/json")

    paths = ("/v1/chat/completions", "/rank")
    async with serving(Starlette(routes=[Route(path, answer, methods=["POST"]) for path in paths])) as url:
        made.url = url
        yield made


@pytest.fixture(autouse=True)
def low_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_http, "_MOST_BYTES", 1_000_000)
    monkeypatch.setattr(chat_replies, "_MOST_LINE_BYTES", 1_000_000)
    monkeypatch.setattr(llms, "_MOST_CHARACTERS", 1_000_000)


async def asked(client: httpx.AsyncClient, server: Endless, *, stream: bool) -> dict[str, Any]:
    """How the answer of a bot with this provider ends."""
    await ingest(client)
    bot = {"name": "Endless", "provider": "openai-compatible", "model": "m", "api_key": "sk-bot"}
    made = await client.post("/bots", json={**bot, "base_url": f"{server.url}/v1"})
    assert made.status_code == 201, made.text
    body = {"message": QUESTION, "bot_id": made.json()["id"], "stream": stream}
    response = await client.post("/chat", json=body)
    end: dict[str, Any] = events_of(response.text)[-1] if response.status_code == 200 else response.json()
    return end


@pytest.mark.parametrize(
    ("content", "stream"), [(PIECE, False), (PIECE, True), (WORDS, True)], ids=["whole", "line", "answer"]
)
async def test_an_answer_without_end_is_read_up_to_a_limit(
    provider_client: httpx.AsyncClient, content: bytes, stream: bool
) -> None:
    async with endless(content) as server:
        end = await asked(provider_client, server, stream=stream)
        async with asyncio.timeout(60):
            while not server.has_ended:
                await asyncio.sleep(0.01)

    assert end["error"]["code"].startswith("provider_")
    assert server.taken < 20_000_000


async def test_an_answer_of_a_reranker_without_end_leaves_the_order_as_it_is(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await ingest(provider_client)
    await provider_client.post("/ingest", json={"text": "The warranty of the inverter is ten years."})
    async with endless(PIECE) as server:
        reranker = {"kind": "http", "url": f"{server.url}/rank", "timeout_seconds": 60}
        bot = {"name": "Ranked", "provider": "extractive", "retrieval": {"reranker": reranker}}
        made = await provider_client.post("/bots", json=bot)
        assert made.status_code == 201, made.text
        found = await provider_client.post("/search", json={"query": QUESTION, "bot_id": made.json()["id"]})

    assert found.json()["reranking"] == {"done": False, "reason": "unreachable"}
    assert server.taken < 20_000_000
