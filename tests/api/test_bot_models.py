"""What a bot's model is asked, at whose address, with which key; and what is said of one that can't be asked."""

import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.fixtures.native_providers import NativeProviders
from tests.fixtures.provider import Reply, ScriptedProvider, scripted_provider
from tests.fixtures.service import Service

FACT = "The warranty of the Eternalgy EMS is five years."
QUESTION = "What is the warranty of the Eternalgy EMS?"
KEY = "sk-of-the-bot-0123456789"


@pytest.fixture
async def client(provider_client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """An admin's key, where the fact is stored."""
    await provider_client.post("/ingest", json={"text": FACT})
    yield provider_client


async def make(client: httpx.AsyncClient, **fields: Any) -> str:
    response = await client.post("/bots", json={"name": "B", **fields})
    assert response.status_code == 201, response.text
    bot_id: str = response.json()["id"]
    return bot_id


async def ask(client: httpx.AsyncClient, bot_id: str, **fields: Any) -> httpx.Response:
    return await client.post("/chat", json={"message": QUESTION, "bot_id": bot_id, **fields})


def done(response: httpx.Response) -> dict[str, Any]:
    """The last event of a stream."""
    last = [line for line in response.text.splitlines() if line.startswith("data: ")][-1]
    data: dict[str, Any] = json.loads(last.removeprefix("data: "))
    return data


async def test_persona_language_and_temperature_reach_the_model(
    client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    bot = await make(
        client,
        provider="openai",
        model="gpt-other",
        persona="You are {brief} and kind.",
        language="ms",
        temperature=0.7,
        max_answer_tokens=99,
        retrieval={"top_k": 1},
    )

    answer = await ask(client, bot)
    own = await ask(client, bot, config={"temperature": 0.1})
    plain = await client.post("/chat", json={"message": QUESTION})

    assert (answer.status_code, own.status_code, plain.status_code) == (200, 200, 200)
    sent, narrowed, default = provider.chats
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("gpt-other", 0.7, 99)
    assert narrowed["temperature"] == 0.1
    assert "You are {brief} and kind." in sent["messages"][0]["content"]
    assert "ISO 639-1 code ms" in sent["messages"][0]["content"]
    assert default["model"] != "gpt-other"
    assert "kind" not in default["messages"][0]["content"]
    assert len(answer.json()["sources"]) == 1


async def test_a_refusal_is_in_the_bots_words_or_language(
    client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    settings = {"provider": "openai", "model": "m"}
    worded = await make(
        client, **settings, guardrails={"refusal_text": "Please call 1-300.", "minimum_relevance": 1}
    )
    spoken = await make(client, name="C", **settings, language="ms", guardrails={"minimum_relevance": 1})
    lenient = await make(client, name="D", **settings, guardrails={"minimum_relevance": 0})

    answers = [(await ask(client, bot)).json() for bot in (worded, spoken, lenient)]

    assert [answer["refused"] for answer in answers] == [True, True, False]
    assert answers[0]["answer"] == "Please call 1-300."
    assert answers[1]["answer"].startswith("Saya tidak menemui")
    assert len(provider.chats) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropic_is_asked_in_its_own_language(
    client: httpx.AsyncClient, native_providers: NativeProviders, stream: bool
) -> None:
    bot = await make(
        client,
        provider="anthropic",
        model="claude-x",
        base_url=native_providers.url,
        api_key=KEY,
        temperature=1.5,
    )
    history = [{"role": "assistant", "content": "Hello!"}, {"role": "user", "content": QUESTION}]

    response = await client.post("/chat", json={"messages": history, "bot_id": bot, "stream": stream})

    answer = done(response) if stream else response.json()
    assert (answer["answer"], answer["model"], answer["finish_reason"]) == (
        "Five years [1].",
        "claude-x",
        "stop",
    )
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (100, 7)
    assert answer["sources"][0]["cited"]
    body, headers = native_providers.bodies[-1], native_providers.headers[-1]
    assert (headers["x-api-key"], headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert "authorization" not in headers
    assert FACT in body["system"]
    assert body["messages"] == [{"role": "user", "content": QUESTION}]
    assert (body["temperature"], body["max_tokens"]) == (1.0, 1024)


@pytest.mark.parametrize("stream", [False, True])
async def test_ollama_is_asked_in_its_own_language_for_a_window_that_holds_the_sources(
    client: httpx.AsyncClient, native_providers: NativeProviders, stream: bool
) -> None:
    native_providers.finish = "length"
    bot = await make(
        client, provider="ollama", model="qwen", base_url=f"{native_providers.url}/v1", max_answer_tokens=6000
    )

    response = await ask(client, bot, stream=stream)

    answer = done(response) if stream else response.json()
    assert (answer["answer"], answer["finish_reason"]) == ("Five years [1].", "length")
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (100, 7)
    body, headers = native_providers.bodies[-1], native_providers.headers[-1]
    assert (body["options"]["num_ctx"], body["options"]["num_predict"]) == (8192, 6000)
    assert FACT in body["messages"][0]["content"]
    assert "authorization" not in headers, "the environment's key is for the environment's address"


@pytest.mark.parametrize("provider_name", ["anthropic", "ollama"])
async def test_a_stream_that_reports_an_error_ends_with_one(
    client: httpx.AsyncClient, native_providers: NativeProviders, provider_name: str
) -> None:
    bot = await make(client, provider=provider_name, model="m", base_url=native_providers.url, api_key=KEY)
    native_providers.fails_after = 1

    event = done(await ask(client, bot, stream=True))

    assert (event["type"], event["error"]["code"]) == ("error", "provider_stream_interrupted")
    assert "secret-detail" not in str(event)


@pytest.mark.parametrize("key", [None, KEY])
async def test_an_address_of_the_bots_own_never_gets_the_environments_key(
    client: httpx.AsyncClient, key: str | None
) -> None:
    async with scripted_provider() as elsewhere:
        bot = await make(
            client,
            provider="openai-compatible",
            model="m",
            base_url=elsewhere.url,
            **({"api_key": key} if key else {}),
        )
        answer = await ask(client, bot)
        seen = [headers.get("authorization") for headers in elsewhere.chat_headers]

    assert answer.status_code == 200
    assert seen == [f"Bearer {KEY}" if key else None]


async def test_a_new_version_answers_from_the_next_turn(
    client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    bot = await make(client, provider="openai", model="first")
    await ask(client, bot)
    await client.patch(f"/bots/{bot}", json={"model": "second", "persona": "Changed."})
    await ask(client, bot)

    assert [chat["model"] for chat in provider.chats] == ["first", "second"]
    assert "Changed." in provider.chats[1]["messages"][0]["content"]


async def trial(client: httpx.AsyncClient, **body: Any) -> tuple[str, str]:
    response = await client.post("/bots/try", json={"provider": "openai-compatible", "model": "m", **body})
    assert response.status_code == 200, response.text
    assert KEY not in response.text
    tried = response.json()
    assert tried["ok"] == (tried["outcome"] == "ok")
    return tried["outcome"], tried["message"]


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Reply(), "ok"),
        (Reply(status=401, message=f"Incorrect API key provided: {KEY}"), "bad_key"),
        (Reply(status=403), "not_permitted"),
        (Reply(status=404), "unknown_model"),
        (Reply(status=400), "not_accepted"),
        (Reply(status=429), "limited"),
        (Reply(status=500), "provider_failed"),
        (Reply(status=307, headers={"Location": "http://127.0.0.1:1/"}), "redirected"),
        (Reply(raw_body=b"<html>Welcome</html>"), "no_model_server"),
        (Reply(raw_body=b"[]"), "no_model_server"),
        (Reply(delay_seconds=4), "timed_out"),
    ],
)
async def test_a_trial_says_what_is_wrong(
    client: httpx.AsyncClient, provider: ScriptedProvider, reply: Reply, outcome: str
) -> None:
    provider.default = reply

    tried, message = await trial(client, base_url=provider.url, api_key=KEY)

    assert tried == outcome
    assert len(provider.chats) == 1, "a trial is not repeated"
    assert message.endswith(".")
    assert "secret-detail" not in message


async def test_a_trial_of_each_provider_asks_one_small_thing(
    client: httpx.AsyncClient, native_providers: NativeProviders, provider: ScriptedProvider
) -> None:
    tried = [
        await trial(client, provider=name, base_url=native_providers.url, api_key=KEY)
        for name in ("anthropic", "ollama")
    ]
    tried.append(await trial(client, provider="openai"))
    native_providers.status = 401
    wrong = await trial(client, provider="anthropic", base_url=native_providers.url, api_key=KEY)

    assert [outcome for outcome, _ in tried] == ["ok", "ok", "ok"]
    assert wrong[0] == "bad_key"
    assert native_providers.bodies[0]["max_tokens"] == 16
    assert len(provider.chats) == 1


async def test_a_trial_tells_addresses_that_do_not_work_apart(client: httpx.AsyncClient) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    unreachable = await trial(client, base_url=f"http://127.0.0.1:{port}/v1")
    unknown = await trial(client, base_url="http://ibid-no-such-host.invalid/v1")

    assert unreachable[0] == "unreachable"
    assert unknown[0] in ("unknown_host", "unreachable")
    assert "127.0.0.1" in unreachable[1]


async def test_a_trial_tells_of_a_server_that_speaks_no_tls(
    client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    outcome, message = await trial(client, base_url=provider.url.replace("http://", "https://"))

    assert outcome == "tls_failed"
    assert "https" in message
    assert provider.chats == []


async def test_a_bot_is_tried_with_its_own_key(
    client: httpx.AsyncClient, native_providers: NativeProviders
) -> None:
    bot = await make(
        client, provider="anthropic", model="claude-x", base_url=native_providers.url, api_key=KEY
    )
    extractive = await make(client, name="E", provider="extractive")

    tried = (await client.post(f"/bots/{bot}/try")).json()
    nothing = await client.post(f"/bots/{extractive}/try")

    assert (tried["ok"], tried["message"], tried["model"]) == (True, "claude-x answers.", "claude-x")
    assert native_providers.headers[-1]["x-api-key"] == KEY
    assert nothing.json()["error"]["code"] == "invalid_bot"


async def test_the_wall_of_addresses_holds_when_connecting(service: Service) -> None:
    """A name may resolve to something else by then; on this service nobody may enter the loopback."""
    key, _ = await service.new_key()
    async with service.client(key) as client:
        literal = await client.post(
            "/bots/try", json={"provider": "ollama", "model": "m", "base_url": "http://127.0.0.1:80"}
        )

    assert (literal.status_code, literal.json()["error"]["code"]) == (422, "unsafe_url")
