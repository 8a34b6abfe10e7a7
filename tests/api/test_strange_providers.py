"""Providers that answer strangely: what can be read of it is an answer, and the rest is never a failure of ours."""

import json
from typing import Any

import httpx
import pytest

from tests.api.test_provider_chat import QUESTION, events_of, ingest, stored
from tests.fixtures.provider import Reply, ScriptedProvider

HALVES = ("Smile \ud83d", "\ude00 and \ud83d go\0od [1].")
"""A character that was cut in two, half of one, and one that no database takes."""


def event(content: Any = None, *, finish_reason: Any = None, **more: Any) -> bytes:
    choice = {
        "index": 0,
        "delta": {} if content is None else {"content": content},
        "finish_reason": finish_reason,
    }
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


def streamed(*pieces: str, finish_reason: Any = "stop", usage: Any = None) -> Reply:
    body = (
        b"".join(map(event, pieces)) + event(finish_reason=finish_reason, usage=usage) + b"data: [DONE]\n\n"
    )
    return Reply(raw_body=body)


def whole(*pieces: str, finish_reason: Any = "stop", usage: Any = None) -> Reply:
    message = {"role": "assistant", "content": "".join(pieces)}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return Reply(raw_body=json.dumps({"choices": [choice], "usage": usage}).encode())


async def answers(
    client: httpx.AsyncClient, provider: ScriptedProvider, *pieces: str, **how: Any
) -> list[dict[str, Any]]:
    """The answer as JSON and as the end of a stream, each as it is stored too."""
    await ingest(client)
    found = []
    for stream in (False, True):
        provider.default = (streamed if stream else whole)(*pieces, **how)
        body = {"message": QUESTION, "stream": stream, "session_id": f"sess_{stream}"}
        response = await client.post("/chat", json=body)
        assert response.status_code == 200, response.text
        found.append(events_of(response.text)[-1] if stream else response.json())
        kept = (await stored(client, f"sess_{stream}"))[-1]
        assert (kept["status"], kept["content"]) == ("complete", found[-1]["answer"])
    return found


async def test_halves_of_characters_are_joined_and_what_no_text_has_is_left_out(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    for answer in await answers(provider_client, provider, *HALVES):
        assert answer["answer"] == "Smile 😀 and \ufffd good [1]."


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -5, "completion_tokens": -1},
        {"prompt_tokens": 10**30, "completion_tokens": 5},
        {"prompt_tokens": "12", "completion_tokens": 1.5},
        {"prompt_tokens": True, "completion_tokens": None},
        [1],
        "none",
    ],
)
async def test_a_count_of_tokens_that_is_none_is_estimated(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, usage: Any
) -> None:
    for answer in await answers(provider_client, provider, "Yes [1].", usage=usage):
        assert answer["usage"]["estimated"] is True
        assert 0 < answer["usage"]["prompt_tokens"] < 10_000
        assert 0 < answer["usage"]["completion_tokens"] < 100


@pytest.mark.parametrize("reason", [7, "x" * 5000, "\ud800", {"why": "stop"}])
async def test_a_reason_to_finish_that_is_no_word_is_the_usual_one(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, reason: Any
) -> None:
    for answer in await answers(provider_client, provider, "Yes [1].", finish_reason=reason):
        assert (answer["answer"], answer["finish_reason"]) == ("Yes [1].", "stop")


@pytest.mark.parametrize("count", [10**30, -7])
async def test_a_count_of_an_embedding_provider_that_is_none_is_estimated(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, count: int
) -> None:
    provider.embedding_usage = count

    made = await provider_client.post("/ingest", json={"text": "The gate is blue, whatever it costs."})
    found = await provider_client.post("/search", json={"query": "What colour is the gate?"})
    usage = (await provider_client.get("/usage", params={"group_by": "purpose"})).json()

    assert (made.status_code, found.status_code) == (200, 200), made.text
    (row,) = usage["rows"]
    assert (row["purpose"], row["estimated_calls"]) == ("embedding", 1)
    assert 0 < row["prompt_tokens"] < 1000


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_is_nested_without_end_is_the_providers_failure(
    provider_client: httpx.AsyncClient, provider: ScriptedProvider, stream: bool
) -> None:
    await ingest(provider_client)
    provider.default = Reply(raw_body=b"data: " * stream + b"[" * 100_000 + b"]" * 100_000 + b"\n\n")

    response = await provider_client.post("/chat", json={"message": QUESTION, "stream": stream})

    assert (response.status_code, response.json()["error"]["code"]) == (502, "provider_error")
