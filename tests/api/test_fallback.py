"""Who answers when the model does not, and questions that wait for their session."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.api.test_provider_chat import QUESTION, events_of, ingest, stored
from tests.fixtures.postgres import MakeDatabase
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service, make_settings, running

Serve = Callable[..., Any]


@pytest.fixture(scope="module")
async def database_url(make_database: MakeDatabase) -> str:
    return await make_database()


@asynccontextmanager
async def serve(
    database_url: str, provider: ScriptedProvider, **values: Any
) -> AsyncIterator[httpx.AsyncClient]:
    settings = make_settings(
        DB_URL=database_url,
        openai_api_key="sk-test-provider-key",
        openai_base_url=provider.url,
        embedding_model="scripted-embedding",
        provider_first_token_timeout_seconds=1,
        provider_max_retries=0,
        **values,
    )
    async with running(settings) as service:
        key, _ = await service.new_key()
        async with service.client(key) as client:
            await ingest(client)
            yield client


def only(model: str, otherwise: Reply) -> Callable[[dict[str, Any]], Reply]:
    return lambda body: Reply(("Another [1].",)) if body["model"] == model else otherwise


@pytest.mark.parametrize(
    "failure", [Reply(status=500), Reply(status=401), Reply(delay_seconds=3), Reply(raw_body=b"{}")]
)
async def test_another_model_answers_when_the_first_one_fails(
    database_url: str, provider: ScriptedProvider, failure: Reply
) -> None:
    async with serve(database_url, provider, chat_fallback_model="other-model") as client:
        provider.answer = only("other-model", failure)
        whole = (await client.post("/chat", json={"message": QUESTION, "session_id": "sess_1"})).json()
        events = events_of((await client.post("/chat", json={"message": QUESTION, "stream": True})).text)
        kept = (await stored(client, "sess_1"))[-1]

    for answer in (whole, events[-1]):
        assert (answer["answer"], answer["model"]) == ("Another [1].", "other-model")
        assert answer["fallback"] is True
        assert answer["fallback_reason"].startswith("provider_")
    assert kept["model"] == "other-model"


async def test_the_documents_answer_when_no_model_does(database_url: str, provider: ScriptedProvider) -> None:
    values = {"chat_fallback_model": "other-model", "chat_fallback_extractive": True}
    async with serve(database_url, provider, **values) as client:
        provider.default = Reply(status=503)
        answer = (await client.post("/chat", json={"message": QUESTION})).json()

    assert {chat["model"] for chat in provider.chats} == {"gpt-4.1-mini", "other-model"}
    assert (answer["model"], answer["fallback"]) == ("extractive", True)
    assert answer["fallback_reason"] == "provider_unavailable"
    assert answer["answer"].endswith("The warranty of the EMS is five years. [1]")


async def test_a_follow_up_is_answered_too_when_no_model_makes_it_standalone(
    database_url: str, provider: ScriptedProvider
) -> None:
    async with serve(database_url, provider, chat_fallback_extractive=True) as client:
        await client.post("/chat", json={"message": QUESTION, "session_id": "sess_f"})
        provider.default = Reply(status=503)
        answer = (
            await client.post("/chat", json={"message": "EMS warranty?", "session_id": "sess_f"})
        ).json()

    assert (answer["model"], answer["fallback"]) == ("extractive", True)


async def test_an_answer_without_need_of_it_says_so(database_url: str, provider: ScriptedProvider) -> None:
    async with serve(database_url, provider, chat_fallback_extractive=True) as client:
        answer = (await client.post("/chat", json={"message": QUESTION})).json()

    assert (answer["fallback"], answer["fallback_reason"], answer["model"]) == (False, None, "gpt-4.1-mini")


async def test_what_has_begun_is_not_begun_again_by_another(
    database_url: str, provider: ScriptedProvider
) -> None:
    async with serve(database_url, provider, chat_fallback_extractive=True) as client:
        provider.default = Reply(("One ", "two"), cut_after=2)
        events = events_of((await client.post("/chat", json={"message": QUESTION, "stream": True})).text)

    assert events[-1]["error"]["code"] == "provider_stream_interrupted"


async def test_a_paused_provider_falls_back_at_once(database_url: str, provider: ScriptedProvider) -> None:
    values = {
        "chat_fallback_extractive": True,
        "provider_breaker_failures": 2,
        "provider_breaker_seconds": 600,
    }
    async with serve(database_url, provider, **values) as client:
        provider.default = Reply(status=503)
        reasons = [
            (await client.post("/chat", json={"message": QUESTION})).json()["fallback_reason"]
            for _ in range(4)
        ]

    assert reasons == ["provider_unavailable"] * 2 + ["provider_paused"] * 2
    assert len(provider.chats) == 2


async def test_a_question_waits_for_its_session_where_the_setting_says_so(
    database_url: str, provider: ScriptedProvider
) -> None:
    async with serve(database_url, provider, chat_busy_wait_seconds=60) as client:
        provider.default = Reply(delay_seconds=0.3)
        body = {"message": QUESTION, "session_id": "sess_w"}
        responses = await asyncio.gather(*(client.post("/chat", json=body) for _ in range(3)))
        messages = await stored(client, "sess_w")

    assert [r.status_code for r in responses] == [200, 200, 200]
    assert [m["role"] for m in messages] == ["user", "assistant"] * 3


async def test_while_the_embedding_provider_is_away_the_words_alone_are_searched_and_that_is_said(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, provider_service: Service
) -> None:
    await ingest(provider_client)
    provider.default = Reply(("Five years [1].",))
    model = provider_service.runtime.embeddings.name
    provider.models_away.add(model)
    try:
        told = await provider_client.post("/chat", json={"message": QUESTION})
        streamed = await provider_client.post("/chat", json={"message": QUESTION, "stream": True})
        found = await provider_client.post("/search", json={"query": QUESTION})
        nothing = await provider_client.post("/search", json={"query": "Xylophone zebra"})
    finally:
        provider.models_away.clear()
        provider_service.runtime.circuits.of("embeddings", model, "").succeeded()
    whole = (await provider_client.post("/chat", json={"message": QUESTION})).json()

    assert told.status_code == 200, told.text
    assert (told.json()["answer"], told.json()["degraded"]) == ("Five years [1].", "provider_unavailable")
    assert events_of(streamed.text)[-1]["degraded"] == "provider_unavailable"
    assert found.json()["degraded"] == "provider_unavailable"
    assert [(hit["similarity"], hit["score"] > 0) for hit in found.json()["results"]] == [(0.0, True)]
    assert (nothing.json()["results"], nothing.json()["degraded"]) == ([], "provider_unavailable")
    assert whole["degraded"] is None

    answer = told.json()
    session = f"/chat/sessions/{answer['session_id']}"
    kept = (await stored(provider_client, answer["session_id"]))[-1]
    exported = (await provider_client.get(f"{session}/export?format=json")).json()["messages"][-1]
    written = (await provider_client.get(f"{session}/export")).text
    again = await provider_client.get(f"/chat/messages/{answer['message_id']}/events")
    assert (kept["degraded"], kept["fallback_reason"]) == ("provider_unavailable", None)
    assert exported["degraded"] == "provider_unavailable"
    assert "searched by words alone" in written
    assert events_of(again.text)[-1]["degraded"] == "provider_unavailable"
    assert (await stored(provider_client, whole["session_id"]))[-1]["degraded"] is None


async def test_without_the_search_by_words_the_failure_of_the_embedding_provider_is_told(
    database_url: str, provider: ScriptedProvider
) -> None:
    async with serve(database_url, provider, search_by_words=False) as client:
        provider.models_away.add("scripted-embedding")
        told = await client.post("/chat", json={"message": QUESTION})
        found = await client.post("/search", json={"query": QUESTION})
        provider.models_away.clear()

    assert (told.status_code, told.json()["error"]["code"]) == (503, "provider_unavailable")
    assert (found.status_code, found.json()["error"]["code"]) == (503, "provider_unavailable")


async def test_another_model_is_asked_the_question_and_not_what_the_callers_program_prefers(
    database_url: str, provider: ScriptedProvider
) -> None:
    async with serve(database_url, provider, chat_fallback_model="other-model") as client:
        provider.answer = only("other-model", Reply(status=500))
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
        made = await client.post("/v1/chat/completions", json={"model": "ibid", "messages": messages})

    assert made.json()["choices"][0]["message"]["content"] == "Another [1]."
    first, second = (chat["messages"] for chat in provider.chats)
    assert second[-1] == first[-1] == {"role": "user", "content": QUESTION}
    assert "Be brief." in second[0]["content"]
