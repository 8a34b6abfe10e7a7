"""What is told of an answer out of the database is what was told of it live: event by event, field by field."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from app.services.runtime import Runtime
from tests.api.test_provider_chat import QUESTION, ingest
from tests.api.test_session_files import NOTICE, asked_without_its_file, put
from tests.api.test_sessions import BROCHURE
from tests.fixtures.people import Company
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service
from tests.fixtures.sockets import socket_of
from tests.fixtures.variants import client_of, variant
from tests.fixtures.workers import PATIENCE_SECONDS, working

Event = tuple[str, dict[str, Any]]


def events_of(response: httpx.Response) -> list[Event]:
    """The numbered events of a stream; how far files are has no number of its own."""
    assert response.status_code == 200, response.text
    found = []
    for block in response.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields and fields["event"] != "document_progress":
            found.append((fields["id"], json.loads(fields["data"])))
    return found


def joined(events: list[Event]) -> list[Event]:
    """With all the text as one piece: where it was cut differs from connection to connection."""
    text = "".join(data["delta"] for _, data in events if data["type"] == "delta")
    last = [id_ for id_, data in events if data["type"] == "delta"][-1:]
    others = [(id_, _without_request(data)) for id_, data in events if data["type"] != "delta"]
    return [*others[:-1], *((id_, {"type": "delta", "delta": text}) for id_ in last), others[-1]]


def _without_request(data: dict[str, Any]) -> dict[str, Any]:
    """An error says which request told it, which is another one."""
    return data if "error" not in data else {**data, "error": {**data["error"], "request_id": ""}}


async def told_twice(client: httpx.AsyncClient, **body: Any) -> tuple[list[Event], list[Event]]:
    """The events of a question as they came, and as they are told once the turn is over."""
    live = events_of(await client.post("/chat", json={"stream": True, **body}))
    path = f"/chat/messages/{live[0][1]['message_id']}/events"
    return joined(live), joined(events_of(await client.get(path)))


@pytest.fixture
async def key(idle_service: Service, provider: ScriptedProvider) -> str:
    key, _ = await idle_service.new_key()
    return key


async def test_an_answer_without_a_file_names_it_whoever_tells_the_answer(
    idle_service: Service, key: str
) -> None:
    app = variant(idle_service, chat_file_wait_seconds=0)
    async with client_of(app, token=key) as client:
        await client.post("/ingest", json={"text": "The notice period of the contract is known."})
        await put(client, session_id="mine")

        live, again = await told_twice(client, message=NOTICE, session_id="mine")
        kept = (await client.get("/chat/sessions/mine/messages")).json()[-1]
        markdown = (await client.get("/chat/sessions/mine/export", params={"format": "markdown"})).text
        whole = json.loads(
            (await client.get("/chat/sessions/mine/export", params={"format": "json"})).content
        )

    assert [file["title"] for file in live[-1][1]["pending_documents"]] == ["contract.txt"]
    assert again == live
    assert kept["pending_documents"] == live[-1][1]["pending_documents"]
    assert whole["messages"][-1]["pending_documents"] == kept["pending_documents"]
    assert "contract.txt" in markdown


async def test_a_stopped_answer_keeps_the_files_that_it_was_without(
    idle_service: Service, key: str, provider: ScriptedProvider
) -> None:
    async with asked_without_its_file(idle_service, key, provider) as (client, asking, _):
        turn = await _turn_with_text(idle_service.runtime)
        stopped = await client.post(f"/chat/messages/{turn.message_id}/stop")
        live = events_of(await asking)
        again = events_of(await client.get(f"/chat/messages/{turn.message_id}/events"))

    assert [file["title"] for file in stopped.json()["pending_documents"]] == ["contract.txt"]
    assert joined(again) == joined(live)


async def test_who_follows_an_answer_from_elsewhere_sees_how_far_files_are(
    idle_service: Service, key: str, provider: ScriptedProvider
) -> None:
    async with (
        asked_without_its_file(idle_service, key, provider) as (_, asking, document_id),
        socket_of(idle_service, key) as socket,
    ):
        turn = await _turn_with_text(idle_service.runtime)
        with _hidden(idle_service.runtime, turn):  # as it is to another process
            await socket.send("resume", message_id=turn.message_id, after=0)
            first = (await socket.until("document_progress"))[-1]
            async with working(idle_service.runtime):
                while (told := (await socket.until("document_progress"))[-1])["document"][
                    "type"
                ] != "completed":
                    pass
        turn.stop()
        end = (await socket.until("stream_end", "error"))[-1]
        live = events_of(await asking)

    assert first["document"]["document_id"] == told["document"]["document_id"] == document_id
    assert end["pending_documents"] == live[-1][1]["pending_documents"] != []


@pytest.mark.parametrize(
    "pieces",
    [("The warranty is", " five years [1]."), ("The warranty is nine years [1].",), ("I ", "don't know.")],
)
async def test_sources_are_told_again_as_they_were_told_first(
    idle_service: Service, key: str, provider: ScriptedProvider, pieces: tuple[str, ...]
) -> None:
    provider.default = Reply(pieces)
    async with idle_service.client(key) as client:
        await ingest(client)
        live, again = await told_twice(client, message=QUESTION)

    assert again == live


@pytest.mark.parametrize("question", ["How long is the warranty?", "Who sells the warranty of the moon?"])
async def test_quotes_are_told_again_as_they_were_told_first(company: Company, question: str) -> None:
    await company.user.ingest(BROCHURE)

    live, again = await told_twice(company.user.http, message=question)

    assert again == live
    told = next(data["sources"] for _, data in live if data["type"] == "sources")
    assert [source["n"] for source in told] == [source["n"] for source in live[-1][1]["sources"]]


async def test_a_failure_of_the_service_itself_is_told_again_as_what_it_was(
    idle_service: Service, key: str, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.services import answering

    def breaks(*_: Any) -> None:
        raise ZeroDivisionError

    provider.default = Reply(("Word ",) * 20)
    async with idle_service.client(key) as client:
        await ingest(client)
        monkeypatch.setattr(answering, "_refusal", breaks)
        live, again = await told_twice(client, message=QUESTION)

    assert live[-1][1]["error"]["code"] == "internal_error"
    assert again == live


def _turns(runtime: Runtime) -> dict[str, Any]:
    return runtime.turns._turns


async def _turn_with_text(runtime: Runtime) -> Any:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not any(turn.pieces for turn in _turns(runtime).values()):
            await asyncio.sleep(0.01)
    [turn] = _turns(runtime).values()
    return turn


@contextmanager
def _hidden(runtime: Runtime, turn: Any) -> Iterator[None]:
    """The turn is not this process's for as long as the block lasts: who follows it reads the database."""
    _turns(runtime).pop(turn.message_id)
    try:
        yield
    finally:
        _turns(runtime)[turn.message_id] = turn
