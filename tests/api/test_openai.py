"""OpenAI's own client, and another one, talk to a bot as if it were a model."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from app.core.principal import Scope
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service

FACTS = "Eternalgy EMS is an energy management system for factories. The warranty of the EMS is five years."
QUESTION = "What is the warranty of the Eternalgy EMS?"
ASK: list[Any] = [{"role": "user", "content": QUESTION}]


@pytest.fixture
async def key(provider: ScriptedProvider, provider_service: Service) -> str:
    """Of an organization that has a document."""
    key, _ = await provider_service.new_key()
    async with provider_service.client(key) as client:
        response = await client.post(
            "/ingest", json={"text": FACTS, "title": "Brochure", "source": "https://ems.example/b"}
        )
        assert response.status_code == 200, response.text
    return key


@pytest.fixture
async def client(provider_service: Service, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        api_key=key,
        base_url=f"{provider_service.url}/v1",
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    ) as client:
        yield client


async def test_an_answer_has_its_citations_and_its_usage(
    client: openai.AsyncOpenAI, provider: ScriptedProvider
) -> None:
    provider.default = Reply(("Five years [1]", " and more [7]."), usage=(812, 96))

    made = await client.chat.completions.create(model="ibid", messages=ASK, user="anna")

    (choice,) = made.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Five years [1] and more.")
    assert (choice.finish_reason, made.object, made.model) == ("stop", "chat.completion", "ibid")
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (812, 96, 908)
    assert choice.message.annotations is not None
    assert choice.message.content is not None
    (citation,) = [annotation.url_citation for annotation in choice.message.annotations]
    assert (citation.title, citation.url) == ("Brochure", "https://ems.example/b")
    assert choice.message.content[citation.start_index : citation.end_index] == "[1]"
    shown = made.model_dump()
    assert shown["citations"] == ["https://ems.example/b"]
    source = shown["sources"][0]
    assert FACTS[source["start"] : source["end"]].startswith(source["snippet"][:20])


async def test_a_stream_begins_with_the_role_and_ends_with_usage(
    client: openai.AsyncOpenAI, provider: ScriptedProvider
) -> None:
    provider.default = Reply(("Five", " years", " [", "1", "]."))

    stream = await client.chat.completions.create(
        model="ibid", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks: list[ChatCompletionChunk] = [chunk async for chunk in stream]

    first, *middle, last, usage = chunks
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in middle) == "Five years [1]."
    assert last.choices[0].finish_reason == "stop"
    assert last.choices[0].delta.model_dump()["annotations"][0]["url_citation"]["title"] == "Brochure"
    assert last.model_dump()["citations"] == ["https://ems.example/b"]
    assert (usage.choices, usage.usage and usage.usage.total_tokens) == ([], 110)
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_the_raw_stream_ends_with_done_and_without_usage_unless_asked(
    provider_service: Service, key: str
) -> None:
    async with provider_service.client(key) as raw:
        body = {"model": "ibid", "messages": ASK, "stream": True}
        response = await raw.post("/v1/chat/completions", json=body)

    assert response.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data:")]
    assert events[-1] == "[DONE]"
    assert all("usage" not in json.loads(event) for event in events[:-1])


async def test_nothing_is_kept_as_a_conversation_and_everything_is_in_the_ledger(
    client: openai.AsyncOpenAI, provider: ScriptedProvider, provider_service: Service, key: str
) -> None:
    await client.chat.completions.create(model="ibid", messages=ASK)

    async with provider_service.client(key) as raw:
        total = (await raw.get("/usage")).json()["total"]
        from sqlalchemy import text

        from app.services import auth

        principal = await auth.authenticate_key(provider_service.runtime.database, key)
        async with provider_service.runtime.database.unit_of_work(principal) as session:
            kept = await session.scalar(text("SELECT count(*) FROM sessions"))
    assert (total["calls"], total["prompt_tokens"]) == (1, 100)
    assert kept == 0


async def test_the_history_comes_from_the_caller(
    client: openai.AsyncOpenAI, provider: ScriptedProvider
) -> None:
    history: list[Any] = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "42", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "Hi"},
    ]
    parts: Any = {"role": "user", "content": [{"type": "text", "text": QUESTION}]}

    made = await client.chat.completions.create(model="ibid", messages=[*history, parts])

    sent = provider.chats[-1]["messages"]
    assert [(turn["role"], turn["content"]) for turn in sent[1:]] == [
        ("user", "Hello"),
        ("assistant", "Hi"),
        ("user", QUESTION),
    ]
    assert made.model_dump()["warnings"] == ["messages with role tool"]


async def test_a_system_message_is_a_preference_beneath_the_bots_own_instructions(
    client: openai.AsyncOpenAI, provider: ScriptedProvider
) -> None:
    asked: list[Any] = [
        {"role": "system", "content": "Answer like a pirate."},
        {"role": "developer", "content": "Be brief."},
        *ASK,
    ]

    await client.chat.completions.create(model="ibid", messages=asked)

    system, *rest = provider.chats[-1]["messages"]
    assert [turn["role"] for turn in rest] == ["user"]
    assert system["content"].index("Use only what the sources") < system["content"].index(
        "Answer like a pirate"
    )
    assert "Be brief." in system["content"]
    assert "contradicts the rules above" in system["content"]


async def test_limits_and_temperature_reach_the_model(
    client: openai.AsyncOpenAI, provider: ScriptedProvider
) -> None:
    await client.chat.completions.create(model="ibid", messages=ASK, max_tokens=77, temperature=0.9)
    await client.chat.completions.create(model="ibid", messages=ASK, max_completion_tokens=10**6)

    assert [(chat["max_tokens"], chat["temperature"]) for chat in provider.chats] == [(77, 0.9), (1024, 0.2)]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_ends_before_a_stop_sequence(
    client: openai.AsyncOpenAI, provider: ScriptedProvider, stream: bool
) -> None:
    provider.default = Reply(
        (
            "Five years [1]. E",
            "N",
            "D of it. More.",
        ),
        usage=(1, 1),
    )

    made: Any = await client.chat.completions.create(
        model="ibid", messages=ASK, stop=["\n\n", "END"], stream=stream
    )

    if stream:
        chunks = [chunk async for chunk in made]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert chunks[-1].choices[0].finish_reason == "stop"
    else:
        text = made.choices[0].message.content
    assert text == "Five years [1]. "


async def test_what_is_cited_behind_a_stop_sequence_is_not_cited(
    client: openai.AsyncOpenAI, provider: ScriptedProvider
) -> None:
    provider.default = Reply(("The warranty is five years. END And that is all [1].",))

    made = await client.chat.completions.create(model="ibid", messages=ASK, stop="END")

    assert made.choices[0].message.content == "The warranty is five years. "
    sources: Any = made.model_extra["sources"]  # type: ignore[index]
    assert [(source["cited"], source["supported"]) for source in sources] == [(False, None)] * len(sources)
    assert sources


async def test_tools_are_ignored_and_the_answer_says_so(client: openai.AsyncOpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

    raw = await client.chat.completions.with_raw_response.create(
        model="ibid", messages=ASK, tools=[tool], seed=1
    )

    assert raw.headers["x-ibid-ignored"] == "tools, seed"
    assert raw.parse().model_dump()["warnings"] == ["tools", "seed"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"n": 2}, "n must be 1"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": []}, "at least 1 item"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "the last message must be the user's"),
        ({"messages": [{"role": "user", "content": "x" * 8001}]}, "8000 characters"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "https://x.example/i.png"}}],
                    }
                ]
            },
            "can't be read here",
        ),
        ({"temperature": 3}, "less than or equal to 2"),
        ({"extra_body": {"unknown": 1}}, "Extra inputs"),
    ],
)
async def test_what_can_not_be_done_is_a_bad_request_in_openais_words(
    client: openai.AsyncOpenAI, fields: dict[str, Any], expected: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=expected) as raised:
        await client.chat.completions.create(**{"model": "ibid", "messages": ASK, **fields})

    error: Any = raised.value.body
    assert (error["type"], error["code"]) == ("invalid_request_error", "validation_error")
    assert error["param"] or "extra" in str(fields) or error["param"] is None
    assert error["request_id"] == raised.value.response.headers["x-request-id"]


async def test_failures_are_the_ones_that_the_client_knows(
    client: openai.AsyncOpenAI, provider: ScriptedProvider, provider_service: Service, key: str
) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="gpt-4o", messages=ASK)
    with pytest.raises(openai.AuthenticationError) as stranger:
        await client.with_options(api_key="ibid_wrong_key").models.list()
    narrow, _ = await provider_service.new_key(frozenset({Scope.SEARCH}))
    with pytest.raises(openai.PermissionDeniedError):
        await client.with_options(api_key=narrow).models.list()
    provider.default = Reply(status=500, headers={"retry-after": "0"})
    with pytest.raises(openai.InternalServerError) as broken:
        await client.chat.completions.create(model="ibid", messages=ASK)
    async with provider_service.client(key) as raw:
        await raw.post("/budgets", json={"subject": "organization", "period": "day", "max_tokens": 0})
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as spent:
            await client.chat.completions.create(model="ibid", messages=ASK, stream=stream)
        assert (spent.value.status_code, spent.value.code) == (402, "insufficient_quota")

    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert stranger.value.code == "invalid_api_key"
    assert (broken.value.status_code, broken.value.type) == (503, "server_error")


async def test_a_cut_in_mid_stream_is_an_error_of_the_client_and_never_a_short_answer(
    client: openai.AsyncOpenAI, provider: ScriptedProvider
) -> None:
    provider.default = Reply(("One", " two", " three"), cut_after=2, pause_seconds=0.05)

    stream = await client.chat.completions.create(model="ibid", messages=ASK, stream=True)
    with pytest.raises(openai.APIError) as raised:
        async for _ in stream:
            pass

    assert raised.value.code == "provider_stream_interrupted"


async def test_a_bot_is_a_model_by_its_id_and_by_its_name(
    client: openai.AsyncOpenAI, provider: ScriptedProvider, provider_service: Service, key: str
) -> None:
    async with provider_service.client(key) as raw:
        settings = {"provider": "extractive", "model": "extractive"}
        made = await raw.post("/bots", json={"name": "Quoting", **settings})
        assert made.status_code == 201, made.text
        bot_id = made.json()["id"]
    stranger, _ = await provider_service.new_key()

    models = [model async for model in client.models.list()]
    answers = [await client.chat.completions.create(model=name, messages=ASK) for name in (bot_id, "quoting")]

    assert [model.id for model in models] == ["ibid", bot_id]
    assert (await client.models.retrieve("Quoting")).id == bot_id
    assert (await client.models.retrieve("ibid")).owned_by == "ibid"
    assert [answer.choices[0].message.content for answer in answers] == [f"{FACTS} [1]"] * 2
    assert provider.chats == []
    for name in ("gpt-4o", "bot_unknown"):
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve(name)
    foreign = client.with_options(api_key=stranger)
    assert [model.id async for model in foreign.models.list()] == ["ibid"]
    for name in (bot_id, "Quoting"):
        with pytest.raises(openai.NotFoundError):
            await foreign.chat.completions.create(model=name, messages=ASK)


async def test_a_collection_is_searched_as_a_vector_store(
    client: openai.AsyncOpenAI, provider_service: Service, key: str
) -> None:
    async with provider_service.client(key) as raw:
        collection_id = (await raw.get("/collections")).json()[0]["id"]
        text = "The EMS was installed in Penang."
        await raw.post("/ingest", json={"text": text, "metadata": {"year": 2025}})

    found = [hit async for hit in client.vector_stores.search(collection_id, query=QUESTION)]
    filtered = [
        hit
        async for hit in client.vector_stores.search(
            collection_id,
            query="Where is the EMS?",
            max_num_results=5,
            filters={"type": "and", "filters": [{"type": "gte", "key": "year", "value": 2024}]},
        )
    ]

    assert (found[0].filename, found[0].content[0].text) == ("https://ems.example/b", FACTS)
    assert found[0].attributes is not None
    assert found[0].attributes["page"] == 1
    assert [hit.content[0].text for hit in filtered] == [text]
    with pytest.raises(openai.NotFoundError):
        await client.vector_stores.search("col_unknown", query=QUESTION)
    with pytest.raises(openai.BadRequestError):
        await client.vector_stores.search(
            collection_id, query="a", filters={"type": "ne", "key": "year", "value": 1}
        )


async def test_another_organizations_collection_is_no_vector_store(
    client: openai.AsyncOpenAI, provider_service: Service
) -> None:
    stranger, _ = await provider_service.new_key()
    async with provider_service.client(stranger) as raw:
        collection_id = (await raw.get("/collections")).json()[0]["id"]

    with pytest.raises(openai.NotFoundError):
        await client.vector_stores.search(collection_id, query=QUESTION)


async def test_pydantic_ai_talks_to_a_bot_whole_and_streamed(
    provider_service: Service, key: str, provider: ScriptedProvider
) -> None:
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
        provider_of = OpenAIProvider(base_url=f"{provider_service.url}/v1", api_key=key, http_client=http)
        agent = Agent(OpenAIChatModel("ibid", provider=provider_of), instructions="Be brief.")
        whole = await agent.run(QUESTION)
        async with agent.run_stream(QUESTION) as run:
            streamed = await run.get_output()

    assert whole.output == streamed == "Yes [1]."
    assert whole.usage.input_tokens == 100
