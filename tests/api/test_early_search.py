"""A question is searched for while its turn is being stored; what is found counts only where it was searched for the right thing."""

import asyncio

import httpx
import pytest

from app.db.repositories.turns import TurnRepository
from app.services import retrieval
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service

SHARED = "The warranty of the Eternalgy EMS is five years for all the parts."
KEPT = "The warranty of the Eternalgy EMS is nine years for all the parts, says the archive."
QUESTION = "How many years is the warranty of the Eternalgy EMS for all the parts?"


async def ask(client: httpx.AsyncClient, message: str = QUESTION, **fields: object) -> httpx.Response:
    return await client.post("/chat", json={"message": message, **fields})


def snippets(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [source["snippet"] for source in response.json()["sources"]]


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is searched for."""
    seen: list[str] = []
    plain = retrieval.search

    async def search(runtime: object, principal: object, question: str, **fields: object) -> object:
        seen.append(question)
        return await plain(runtime, principal, question, **fields)  # type: ignore[arg-type]

    monkeypatch.setattr(retrieval, "search", search)
    return seen


def early_searches() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "early search"]


async def test_a_plain_question_is_searched_for_once(
    provider_client: httpx.AsyncClient, searches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await provider_client.post("/ingest", json={"text": SHARED})
    order: list[str] = []
    plain, opened = retrieval.search, TurnRepository.open_turn

    async def search(*arguments: object, **fields: object) -> object:
        order.append("search")
        return await plain(*arguments, **fields)  # type: ignore[arg-type]

    async def open_turn(*arguments: object, **fields: object) -> object:
        await asyncio.sleep(0.2)
        order.append("stored")
        return await opened(*arguments, **fields)  # type: ignore[arg-type]

    monkeypatch.setattr(retrieval, "search", search)
    monkeypatch.setattr(TurnRepository, "open_turn", open_turn)

    assert snippets(await ask(provider_client)) == [SHARED]
    assert (order, searches) == (["search", "stored"], [QUESTION])


async def test_a_session_of_another_bot_is_answered_from_that_bots_collections_alone(
    provider_client: httpx.AsyncClient,
) -> None:
    archive = (await provider_client.post("/collections", json={"name": "Archive"})).json()["id"]
    await provider_client.post("/ingest", json={"text": SHARED})
    kept = await provider_client.post("/ingest", json={"text": KEPT, "collection_id": archive})
    assert kept.status_code == 200, kept.text
    bot = {"name": "A", "provider": "openai", "model": "gpt-4.1-mini", "collection_ids": [archive]}
    made = (await provider_client.post("/bots", json=bot)).json()
    first = await ask(provider_client, bot_id=made["id"])
    session_id = first.json()["session_id"]
    assert snippets(first) == [KEPT], first.json()

    assert snippets(await ask(provider_client, session_id=session_id)) == [KEPT]
    assert KEPT in snippets(await ask(provider_client, session_id=session_id, bot_id="default"))


async def test_what_a_model_makes_of_a_follow_up_is_what_is_searched_for(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, searches: list[str]
) -> None:
    await provider_client.post("/ingest", json={"text": SHARED})
    session_id = (await ask(provider_client)).json()["session_id"]
    provider.script = [Reply(("How long is the warranty of the EMS?",)), Reply(("Five years [1].",))]

    await ask(provider_client, "And how long is it?", session_id=session_id)

    assert searches == [QUESTION, "How long is the warranty of the EMS?"]


async def test_a_turn_that_is_not_stored_leaves_no_search_behind(
    provider_service: Service, provider: ScriptedProvider
) -> None:
    key, organization_id = await provider_service.new_key()
    other_key, _ = await provider_service.new_key(organization_id=organization_id)
    async with provider_service.client(key) as owner, provider_service.client(other_key) as stranger:
        theirs = (await ask(owner)).json()["session_id"]
        provider.embedding_delays["scripted-embedding"] = 5
        foreign = await ask(stranger, session_id=theirs)

    assert (foreign.status_code, foreign.json()["error"]["code"]) == (404, "session_not_found")
    assert early_searches() == []


async def test_a_search_that_fails_early_fails_the_turn_that_is_stored(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await provider_client.post("/ingest", json={"text": SHARED})
    session_id = (await ask(provider_client)).json()["session_id"]
    provider.embedding_script = [Reply(status=401)]

    failed = await ask(provider_client, session_id=session_id)
    messages = (await provider_client.get(f"/chat/sessions/{session_id}/messages")).json()

    assert (failed.status_code, failed.json()["error"]["code"]) == (502, "provider_error")
    assert [(each["role"], each["status"]) for each in messages[2:]] == [
        ("user", "complete"),
        ("assistant", "failed"),
    ]
