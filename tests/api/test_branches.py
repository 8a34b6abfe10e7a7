"""Answers that are given again and questions that are asked otherwise: both are kept, and the history is of one branch."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.api.test_provider_chat import QUESTION, events_of, ingest, stored
from tests.fixtures.provider import Reply, ScriptedProvider


@pytest.fixture
async def client(provider_client: httpx.AsyncClient) -> httpx.AsyncClient:
    await ingest(provider_client)
    return provider_client


async def ask(
    client: httpx.AsyncClient, provider: ScriptedProvider, answer: str, **body: Any
) -> dict[str, Any]:
    provider.default = Reply((answer,))
    response = await client.post("/chat", json={"message": QUESTION, "session_id": "sess_b", **body})
    assert response.status_code == 200, response.text
    answered: dict[str, Any] = response.json()
    return answered


async def again(
    client: httpx.AsyncClient, provider: ScriptedProvider, answer: str, message_id: str
) -> dict[str, Any]:
    provider.default = Reply((answer,))
    response = await client.post(f"/chat/messages/{message_id}/regenerate", json={})
    assert response.status_code == 200, response.text
    answered: dict[str, Any] = response.json()
    return answered


async def edited(
    client: httpx.AsyncClient, provider: ScriptedProvider, answer: str, message_id: str, message: str
) -> dict[str, Any]:
    provider.default = Reply((answer,))
    response = await client.post(f"/chat/messages/{message_id}/edit", json={"message": message})
    assert response.status_code == 200, response.text
    answered: dict[str, Any] = response.json()
    return answered


async def branch(client: httpx.AsyncClient) -> list[str]:
    return [message["content"] for message in await stored(client, "sess_b")]


def asked_of(provider: ScriptedProvider) -> list[str]:
    return [message["content"] for message in provider.chats[-1]["messages"][1:]]


OTHER = "How long is the warranty that the Eternalgy EMS comes with for factories?"


async def test_an_answer_given_again_stands_beside_the_first_one(
    client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    first = await ask(client, provider, "First.")
    second = await again(client, provider, "Second.", first["message_id"])

    assert (second["session_id"], second["answer"]) == ("sess_b", "Second.")
    assert asked_of(provider) == [QUESTION]
    assert await branch(client) == [QUESTION, "Second."]
    shown = (await stored(client, "sess_b"))[-1]
    assert shown["sibling_ids"] == [first["message_id"], second["message_id"]]
    everything = (await client.get("/chat/sessions/sess_b/messages?branches=all")).json()
    assert [(m["content"], m["active"]) for m in everything] == [
        (QUESTION, True),
        ("First.", False),
        ("Second.", True),
    ]


async def test_the_history_is_that_of_the_branch(
    client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    first = await ask(client, provider, "First.")
    await ask(client, provider, "Later.", message=OTHER)
    await again(client, provider, "Second.", first["message_id"])
    await ask(client, provider, "After the second.", message=OTHER)

    assert asked_of(provider) == [QUESTION, "Second.", OTHER]
    assert await branch(client) == [QUESTION, "Second.", OTHER, "After the second."]


async def test_an_edited_question_begins_a_branch_of_its_own(
    client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await ask(client, provider, "First.")
    await ask(client, provider, "Second.", message=OTHER)
    question = (await stored(client, "sess_b"))[2]
    third = "What does the Eternalgy EMS do for factories and energy management?"

    await edited(client, provider, "Otherwise.", question["id"], third)

    assert asked_of(provider) == [QUESTION, "First.", third]
    assert await branch(client) == [QUESTION, "First.", third, "Otherwise."]
    shown = (await stored(client, "sess_b"))[2]
    assert len(shown["sibling_ids"]) == 2
    assert shown["sibling_ids"][0] == question["id"]


async def test_the_first_question_can_be_edited(
    client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await ask(client, provider, "First.")
    question = (await stored(client, "sess_b"))[0]

    await edited(client, provider, "Otherwise.", question["id"], OTHER)
    await ask(client, provider, "Later.")

    assert await branch(client) == [OTHER, "Otherwise.", QUESTION, "Later."]
    assert asked_of(provider) == [OTHER, "Otherwise.", QUESTION]


async def test_a_branch_is_gone_on_with_when_it_is_selected(
    client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    first = await ask(client, provider, "First.")
    await ask(client, provider, "Later.", message=OTHER)
    await again(client, provider, "Second.", first["message_id"])
    await ask(client, provider, "After the second.", message=OTHER)

    selected = await client.post(f"/chat/messages/{first['message_id']}/select")

    assert selected.json() == {"session_id": "sess_b"}
    assert await branch(client) == [QUESTION, "First.", OTHER, "Later."]
    await ask(client, provider, "And on.")
    assert asked_of(provider) == [QUESTION, "First.", OTHER, "Later.", QUESTION]
    everything = (await client.get("/chat/sessions/sess_b/messages?branches=all")).json()
    assert len(everything) == 9


async def test_branches_of_branches_keep_their_places(
    client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    first = await ask(client, provider, "First.")
    second = await again(client, provider, "Second.", first["message_id"])
    await ask(client, provider, "Below the second.", message=OTHER)
    below = (await stored(client, "sess_b"))[2]["id"]
    await edited(client, provider, "Edited below.", below, OTHER + "!")
    third = await again(client, provider, "Third.", second["message_id"])

    assert await branch(client) == [QUESTION, "Third."]
    answers = (await stored(client, "sess_b"))[1]["sibling_ids"]
    assert answers == [first["message_id"], second["message_id"], third["message_id"]]
    await client.post(f"/chat/messages/{second['message_id']}/select")
    assert await branch(client) == [QUESTION, "Second.", OTHER + "!", "Edited below."]
    await client.post(f"/chat/messages/{below}/select")
    assert await branch(client) == [QUESTION, "Second.", OTHER, "Below the second."]


async def test_it_streams_too(client: httpx.AsyncClient, provider: ScriptedProvider) -> None:
    first = await ask(client, provider, "First.")
    provider.default = Reply(("Sec", "ond."))

    response = await client.post(f"/chat/messages/{first['message_id']}/regenerate", json={"stream": True})

    events = events_of(response.text)
    assert [e["type"] for e in events[:2]] == ["session", "sources"]
    assert (events[-1]["type"], events[-1]["answer"]) == ("done", "Second.")
    assert events[0]["session_id"] == "sess_b"


async def test_what_is_no_answer_is_not_given_again_and_what_is_no_question_not_edited(
    client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    await ask(client, provider, "First.")
    question, answer = (message["id"] for message in await stored(client, "sess_b"))

    wrong = [
        await client.post(f"/chat/messages/{question}/regenerate", json={}),
        await client.post(f"/chat/messages/{answer}/edit", json={"message": "x"}),
        await client.post("/chat/messages/msg_unknown/regenerate", json={}),
        await client.post("/chat/messages/msg_unknown/edit", json={"message": "x"}),
        await client.post(f"/chat/messages/{question}/stop"),
    ]

    assert [(r.status_code, r.json()["error"]["code"]) for r in wrong] == [
        (422, "not_an_answer"),
        (422, "not_a_question"),
        (404, "message_not_found"),
        (404, "message_not_found"),
        (404, "answer_not_found"),
    ]
    assert await branch(client) == [QUESTION, "First."]


async def test_a_session_that_is_answered_is_not_branched(
    client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    first = await ask(client, provider, "First.")
    provider.default = Reply(delay_seconds=1)
    running = asyncio.create_task(client.post("/chat", json={"message": OTHER, "session_id": "sess_b"}))
    while len(provider.chats) < 2:
        await asyncio.sleep(0.02)

    refused = [
        await client.post(f"/chat/messages/{first['message_id']}/regenerate", json={}),
        await client.post(f"/chat/messages/{first['message_id']}/select"),
    ]
    answered = await running

    assert [r.json()["error"]["code"] for r in refused] == ["session_busy"] * 2
    assert answered.status_code == 200
    assert (await branch(client))[:3] == [QUESTION, "First.", OTHER]
