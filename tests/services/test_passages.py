"""The passages for an answer: merged, under their headings, expanded and reranked as a bot wants, and its failures."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.core.bots import Bot, Expansion, RerankerKind, RerankerSettings, RetrievalSettings
from app.core.principal import ALL_SCOPES, Principal, PrincipalKind, Role
from app.rag.cross_encoder import CrossEncoder
from app.services import maintenance, passages, usage
from app.services.passages import Found
from app.services.runtime import Runtime
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service, serving
from tests.rag.test_cross_encoder import write_model

HANDBOOK = """# Handbook

## Inverter

### Warranty

The warranty of the inverter is ten years. It begins with the installation.

### Cleaning

The filter of the inverter is cleaned every spring with a dry brush.

## Battery

The warranty of the battery is five years.
"""
SENTENCES = [
    f"The {name} pump has a warranty of {n} years." for n, name in enumerate(("red", "blue", "green"), 2)
]


def principal_of(organization_id: str) -> Principal:
    return Principal(PrincipalKind.OPERATOR, "op", organization_id, Role.ADMIN, ALL_SCOPES)


async def ingest(client: httpx.AsyncClient, text: str, **fields: Any) -> str:
    response = await client.post("/ingest", json={"text": text, **fields})
    assert response.status_code == 200, response.text
    document_id: str = response.json()["document_id"]
    return document_id


async def results(client: httpx.AsyncClient, query: str, **fields: Any) -> list[dict[str, Any]]:
    response = await client.post("/search", json={"query": query, "top_k": 9, **fields})
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["results"]
    return found


async def in_small_chunks(client: httpx.AsyncClient, splitter: str) -> str:
    response = await client.post(
        "/collections",
        json={"name": "Small", "chunk_size_tokens": 24, "chunk_overlap_tokens": 6, "splitter": splitter},
    )
    assert response.status_code == 201, response.text
    collection_id: str = response.json()["id"]
    return collection_id


async def test_a_chunk_is_found_by_its_headings_and_tells_them(client: httpx.AsyncClient) -> None:
    collection_id = await in_small_chunks(client, "headings")
    await ingest(client, HANDBOOK, collection_id=collection_id)

    best, *_ = await results(client, "How do I clean the inverter?")
    assert best["heading"] == "Handbook › Inverter › Cleaning"
    assert "dry brush" in best["text"]
    answer = (await client.post("/chat", json={"message": "How long is the warranty of the battery?"})).json()
    cited = [source for source in answer["sources"] if source["cited"]]
    assert "five years" in answer["answer"]
    assert cited[0]["heading"].startswith("Handbook")


@pytest.mark.parametrize("splitter", ["sentences", "headings", "lines"])
async def test_neighbouring_chunks_are_one_passage_with_exact_offsets(
    client: httpx.AsyncClient, splitter: str
) -> None:
    collection_id = await in_small_chunks(client, splitter)
    document_id = await ingest(client, HANDBOOK, collection_id=collection_id)
    (page,) = (await client.get(f"/documents/{document_id}/text")).json()

    chunks = await results(client, "warranty of the inverter and the battery")
    merged = await results(client, "warranty of the inverter and the battery", passages=True)

    assert len(merged) < len(chunks)
    for each in (*chunks, *merged):
        assert page["text"][each["start"] : each["end"]] == each["text"]
    covered = sorted((each["start"], each["end"]) for each in merged)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(covered))
    answer = (await client.post("/chat", json={"message": "What is the warranty of the inverter?"})).json()
    for source in answer["sources"]:
        assert page["text"][source["start"] : source["end"]].split()[:3] == source["snippet"].split()[:3]


async def test_the_model_is_told_title_headings_and_page(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await ingest(provider_client, HANDBOOK, title="Plant")
    provider.default = Reply(("Ten years [1].",))

    await provider_client.post("/chat", json={"message": "What is the warranty of the inverter?"})

    assert "[1] Plant › Handbook\n# Handbook" in provider.chats[-1]["messages"][0]["content"]


@pytest.mark.parametrize("lines", [1, 70])
async def test_a_document_is_found_by_the_words_of_its_new_title_and_no_longer_by_those_of_the_old(
    client: httpx.AsyncClient, service: Service, lines: int
) -> None:
    """A small one at once, a large one with the next round of maintenance."""
    collection_id = await in_small_chunks(client, "lines")
    text = "\n".join(f"Item {n} is here." for n in range(lines))
    document_id = await ingest(client, text, title="Zanzibar", collection_id=collection_id)
    assert len(await with_words(client, "zanzibar")) == min(lines, 50)

    changed = await client.patch(f"/documents/{document_id}", json={"title": "Montevideo"})
    assert changed.status_code == 200, changed.text
    if lines > 1:
        await maintenance.run_once(service.runtime)

    assert len(await with_words(client, "montevideo")) == min(lines, 50)
    assert await with_words(client, "zanzibar") == []


async def with_words(client: httpx.AsyncClient, query: str) -> list[dict[str, Any]]:
    """The results that have a word of the query."""
    found = await results(client, query, explain=True, top_k=50)
    return [each for each in found if each["explanation"]["lexical"]["score"] > 0]


async def test_without_a_model_a_follow_up_that_says_nothing_itself_is_asked_with_the_question_before(
    client: httpx.AsyncClient,
) -> None:
    await ingest(client, HANDBOOK)
    first = (await client.post("/chat", json={"message": "How long is the warranty of the battery?"})).json()
    assert first["refused"] is False

    second = (
        await client.post("/chat", json={"message": "And why is that?", "session_id": first["session_id"]})
    ).json()
    alone = (await client.post("/chat", json={"message": "And why is that?"})).json()
    other = (
        await client.post(
            "/chat",
            json={"message": "Who painted the Mona Lisa in Paris?", "session_id": first["session_id"]},
        )
    ).json()

    short = (
        await client.post(
            "/chat", json={"message": "Who painted Guernica?", "session_id": first["session_id"]}
        )
    ).json()

    assert "Handbook" in [source["title"] for source in second["sources"]]
    assert alone["refused"] is other["refused"] is short["refused"] is True


# --- Rerankers ------------------------------------------------------------------------------------------------


def bot_with(runtime: Runtime, **retrieval: Any) -> Bot:
    return replace(runtime.default_bot, retrieval=RetrievalSettings(**retrieval))


async def found_by(runtime: Runtime, principal: Principal, bot: Bot, question: str, *, limit: int) -> Found:
    async with usage.account(runtime, principal) as ledger:
        return await passages.find(runtime, principal, bot, question, limit=limit, ledger=ledger)


async def find(service: Service, bot: Bot, *, question: str = "Which pump has a warranty?") -> Found:
    """Of a fresh organization with three short documents."""
    key, organization_id = await service.new_key()
    async with service.client(key) as client:
        for text in SENTENCES:
            await ingest(client, text)
    return await found_by(service.runtime, principal_of(organization_id), bot, question, limit=3)


def texts(found: Found) -> list[str]:
    return [hit.text for hit in found.hits]


async def test_a_language_model_puts_the_passages_in_order(
    provider_service: Service, provider: ScriptedProvider
) -> None:
    bot = bot_with(provider_service.runtime, reranker=RerankerSettings(RerankerKind.LLM))
    provider.answer = lambda body: Reply((f"[{_numbers_of('blue', body)}]",))

    found = await find(provider_service, bot)

    assert found.reranking is not None
    assert found.reranking.done
    assert "blue" in texts(found)[0]
    assert len(found.hits) == 3


def _numbers_of(word: str, body: dict[str, Any]) -> int:
    """The number under which the passage with this word was sent."""
    blocks = body["messages"][0]["content"].split("\n[")
    return next(int(block.split("]")[0]) for block in blocks if f"{word} pump" in block)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(("I can't tell.",)), "unusable_answer"),
        (Reply(status=401), "provider_error"),
        (Reply(delay_seconds=30), "timeout"),
    ],
)
async def test_where_the_model_fails_the_order_stays(
    provider_service: Service, provider: ScriptedProvider, reply: Reply, reason: str
) -> None:
    plain = texts(await find(provider_service, provider_service.runtime.default_bot))
    bot = bot_with(provider_service.runtime, reranker=RerankerSettings(RerankerKind.LLM, timeout_seconds=0.5))
    provider.default = reply

    found = await find(provider_service, bot)

    assert found.reranking is not None
    assert (found.reranking.done, found.reranking.reason) == (False, reason)
    assert texts(found) == plain


@asynccontextmanager
async def reranking_service(answer: Any, seen: list[dict[str, Any]]) -> AsyncIterator[str]:
    async def rerank(request: Request) -> Response:
        body = await request.json()
        seen.append({**body, "authorization": request.headers.get("authorization")})
        if callable(answer):
            return JSONResponse(answer(body))
        if isinstance(answer, int):
            return Response(status_code=answer)
        await asyncio.sleep(3)
        return Response()

    async with serving(Starlette(routes=[Route("/v1/rerank", rerank, methods=["POST"])])) as url:
        yield f"{url}/v1/rerank"


def _green_first(body: dict[str, Any]) -> object:
    scored = [
        {"index": n, "relevance_score": float("green" in text)}
        for n, text in enumerate(body.get("documents") or body["texts"])
    ]
    return {"results": scored} if "documents" in body else scored


@pytest.mark.parametrize("model", ["rerank-v3.5", None])
async def test_a_reranking_service_puts_the_passages_in_order(service: Service, model: str | None) -> None:
    seen: list[dict[str, Any]] = []
    key = service.runtime.keyring.encrypt("secret-key")
    async with reranking_service(_green_first, seen) as url:
        reranker = RerankerSettings(RerankerKind.HTTP, model, url, anywhere=True, api_key_encrypted=key)
        found = await find(service, bot_with(service.runtime, reranker=reranker))

    assert found.reranking is not None
    assert found.reranking.done, found.reranking.reason
    assert "green" in texts(found)[0]
    assert seen[0]["authorization"] == "Bearer secret-key"
    assert ("documents" in seen[0], "texts" in seen[0]) == (model is not None, model is None)


@pytest.mark.parametrize(
    ("answer", "anywhere", "reason"),
    [
        (503, True, "status_503"),
        (lambda _: {"results": "no"}, True, "unusable_answer"),
        (None, True, "timeout"),
        (
            _green_first,
            False,
            "unreachable",
        ),  # an address of the server's own network, which no admin may name
    ],
)
async def test_where_the_service_fails_the_order_stays(
    service: Service, answer: Any, anywhere: bool, reason: str
) -> None:
    plain = texts(await find(service, service.runtime.default_bot))
    seen: list[dict[str, Any]] = []
    async with reranking_service(answer, seen) as url:
        reranker = RerankerSettings(RerankerKind.HTTP, "m", url, anywhere=anywhere, timeout_seconds=1)
        found = await find(service, bot_with(service.runtime, reranker=reranker))

    assert found.reranking is not None
    assert (found.reranking.done, found.reranking.reason) == (False, reason)
    assert texts(found) == plain
    assert bool(seen) is anywhere


async def test_a_local_cross_encoder_puts_the_passages_in_order_where_its_folder_is_given(
    service: Service, tmp_path: Path
) -> None:
    bot = bot_with(service.runtime, reranker=RerankerSettings(RerankerKind.LOCAL, timeout_seconds=60))
    without = await find(service, bot)
    assert without.reranking is not None
    assert without.reranking.reason == "no_reranker_folder"

    encoder = CrossEncoder(write_model(tmp_path))
    with_encoder = replace(service, app=service.app)
    key, organization_id = await service.new_key()
    async with service.client(key) as client:
        for text in (*SENTENCES, "A pump of gold gold gold has a warranty too."):
            await ingest(client, text)
    runtime = replace(with_encoder.runtime, cross_encoder=encoder)
    found = await found_by(
        runtime, principal_of(organization_id), bot, "Which red pump has a warranty?", limit=4
    )
    encoder.close()

    assert found.reranking is not None
    assert found.reranking.done, found.reranking.reason
    assert "gold" in texts(found)[0]


# --- Expansion ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Expansion.MULTI_QUERY, Expansion.HYPOTHETICAL_ANSWER])
async def test_other_wordings_find_what_the_question_does_not(
    provider_service: Service, provider: ScriptedProvider, kind: Expansion
) -> None:
    key, organization_id = await provider_service.new_key()
    async with provider_service.client(key) as client:
        for n in range(12):
            await ingest(client, f"The quarterly bonus of department {n} is paid in March.")
        await ingest(client, "Remuneration supplements follow the annual agreement.")
    principal, question = principal_of(organization_id), "What is the bonus of department 3?"
    runtime = provider_service.runtime
    plain = await found_by(runtime, principal, runtime.default_bot, question, limit=3)
    provider.default = Reply(("- Remuneration supplements annual agreement\n- pay",))

    expanded = await found_by(runtime, principal, bot_with(runtime, expansion=kind), question, limit=3)

    assert not any("Remuneration" in text for text in texts(plain))
    assert any("Remuneration" in text for text in texts(expanded))
    assert provider.chats[-1]["messages"][-1]["content"] == question


async def test_where_no_other_wording_comes_the_question_searches_alone(
    provider_service: Service, provider: ScriptedProvider
) -> None:
    plain = texts(await find(provider_service, provider_service.runtime.default_bot))
    provider.default = Reply(status=500)

    expanded = await find(
        provider_service, bot_with(provider_service.runtime, expansion=Expansion.MULTI_QUERY)
    )

    assert texts(expanded) == plain


async def test_a_made_up_answer_does_not_make_a_question_answerable(
    provider_service: Service, provider: ScriptedProvider
) -> None:
    provider.default = Reply((SENTENCES[0],))
    bot = bot_with(provider_service.runtime, expansion=Expansion.HYPOTHETICAL_ANSWER)

    found = await find(provider_service, bot, question="Who painted Guernica?")

    assert not found.relevant


async def test_search_as_a_bot_that_is_none_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("/search", json={"query": "pump", "bot_id": "bot_none"})

    assert (response.status_code, json.loads(response.content)["error"]["code"]) == (404, "bot_not_found")
