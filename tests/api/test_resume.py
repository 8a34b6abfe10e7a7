"""A connection that breaks at any event is taken up again, by another process: the client's text is the whole text."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.api.test_provider_chat import QUESTION, events_of, ingest, stored
from tests.fixtures.postgres import MakeDatabase
from tests.fixtures.processes import Replica, replica
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service, make_settings, running
from tests.fixtures.sockets import socket_of

PIECES: Final = tuple(f"Wört{number} 🌱 [1] " for number in range(58))
TEXT: Final = "".join(PIECES).rstrip()
EVENTS: Final = len(PIECES) + 2
"""What comes before the end: session, sources, and a delta for each piece."""


@pytest.fixture(scope="module")
async def database_url(make_database: MakeDatabase) -> str:
    return await make_database()


@pytest.fixture(scope="module")
async def patient(database_url: str, shared_provider: ScriptedProvider) -> AsyncIterator[Service]:
    settings = make_settings(
        DB_URL=database_url,
        openai_api_key="sk-test-provider-key",
        openai_base_url=shared_provider.url,
        embedding_model="scripted-embedding",
        chat_resume_seconds=60,
    )
    async with running(settings) as service:
        yield service


@pytest.fixture(scope="module")
async def second(
    database_url: str,
    patient: Service,
    shared_provider: ScriptedProvider,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Replica]:
    """Another process on the same database."""
    settings = {
        "DB_URL": database_url,
        "OPENAI_API_KEY": "sk-test-provider-key",
        "OPENAI_BASE_URL": shared_provider.url,
        "EMBEDDING_MODEL": "scripted-embedding",
    }
    async with replica(tmp_path_factory.mktemp("replica"), **settings) as made:
        yield made


@pytest.fixture
async def key(patient: Service, provider: ScriptedProvider) -> str:
    key, _ = await patient.new_key()
    async with patient.client(key) as client:
        await ingest(client)
    provider.default = Reply(PIECES, pause_seconds=0.015)
    return key


Event = tuple[str, dict[str, Any]]


def parsed(block: str) -> Event:
    fields = dict(line.split(": ", 1) for line in block.splitlines())
    return fields["id"], json.loads(fields["data"])


async def cut_after(client: httpx.AsyncClient, count: int, body: dict[str, Any]) -> list[Event]:
    """The first so many events of a stream, whose connection is then broken."""
    events: list[Event] = []
    async with client.stream("POST", "/chat", json=body) as response:
        assert response.status_code == 200
        async for block in blocks(response):
            events.append(parsed(block))
            if len(events) == count:
                break
    return events


async def blocks(response: httpx.Response) -> AsyncIterator[str]:
    rest = ""
    async for text in response.aiter_text():
        *whole, rest = (rest + text).split("\n\n")
        for block in whole:
            if block and not block.startswith(":"):
                yield block


async def rest_of(response: httpx.Response) -> list[Event]:
    assert response.status_code == 200, response.text
    return [parsed(b) for b in response.text.split("\n\n") if b.strip() and not b.startswith(":")]


def check(events: list[Event]) -> dict[str, Any]:
    """Each event once and in order, one end, and the text the whole text; returns the end."""
    numbers = [int(id.split(":")[1]) for id, _ in events]
    types = [data["type"] for _, data in events]
    assert numbers == sorted(set(numbers)), numbers
    assert types[:2] == ["session", "sources"]
    assert set(types[2:-1]) == {"delta"}
    assert types[-1] == "done", events[-1]
    assert "".join(data["delta"] for _, data in events[2:-1]) == TEXT == events[-1][1]["answer"]
    return events[-1][1]


async def cut_and_resume(
    first: httpx.AsyncClient, other: httpx.AsyncClient, count: int, *, by_post: bool
) -> None:
    body = {"message": QUESTION, "stream": True, "session_id": f"sess_{count}_{by_post}"}
    events = await cut_after(first, count, body)
    headers = {"Last-Event-ID": events[-1][0]}
    message_id = events[0][1]["message_id"]
    if by_post:  # what a client does that repeats its request
        rest = await other.post("/chat", json=body, headers=headers)
    else:
        rest = await other.get(f"/chat/messages/{message_id}/events", headers=headers)
    if events[-1][1]["type"] == "done":
        assert rest.status_code == 204
    else:
        events += await rest_of(rest)
    end = check(events)
    messages = await stored(first, end["session_id"])
    assert [(m["role"], m["status"]) for m in messages] == [("user", "complete"), ("assistant", "complete")]
    assert (messages[-1]["content"], messages[-1]["sources"]) == (TEXT, end["sources"])


async def cut_everywhere(patient: Service, second: Replica, key: str, counts: list[int]) -> None:
    async with patient.client(key) as first, second.client(key) as other:
        for place in range(0, len(counts), 10):
            await asyncio.gather(
                *(
                    cut_and_resume(first, other, count, by_post=count % 2 == 0)
                    for count in counts[place : place + 10]
                )
            )


async def test_a_stream_cut_at_some_events_goes_on_in_another_process(
    patient: Service, second: Replica, key: str
) -> None:
    await cut_everywhere(patient, second, key, [1, 2, 3, 4, 17, 30, EVENTS - 1, EVENTS])


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_stream_cut_at_every_event_goes_on_in_another_process(
    patient: Service, second: Replica, key: str
) -> None:
    await cut_everywhere(patient, second, key, list(range(1, EVENTS + 2)))


async def test_a_stream_goes_on_in_its_own_process_too(patient: Service, key: str) -> None:
    async with patient.client(key) as client:
        for count in (1, 2, 20):
            await cut_and_resume(client, client, count, by_post=False)


async def test_it_can_be_cut_again_and_again(
    patient: Service, second: Replica, key: str, provider: ScriptedProvider
) -> None:
    provider.default = Reply(PIECES, pause_seconds=0.1)
    async with patient.client(key) as first, second.client(key) as other:
        events = await cut_after(first, 5, {"message": QUESTION, "stream": True})
        path = f"/chat/messages/{events[0][1]['message_id']}/events"
        for client in (other, first, other):
            async with client.stream("GET", path, headers={"Last-Event-ID": events[-1][0]}) as response:
                async for block in blocks(response):
                    events.append(parsed(block))
                    break
        events += await rest_of(await first.get(path, headers={"Last-Event-ID": events[-1][0]}))

    check(events)


async def test_an_answer_that_has_ended_is_told_again_wherever_one_asks(
    patient: Service, second: Replica, key: str
) -> None:
    async with patient.client(key) as first, second.client(key) as other:
        whole = events_of((await first.post("/chat", json={"message": QUESTION, "stream": True})).text)
        path = f"/chat/messages/{whole[0]['message_id']}/events"
        for client in (first, other):
            again = await rest_of(await client.get(path))
            end = check(again)
            assert end == whole[-1]
            assert (await client.get(path, headers={"Last-Event-ID": again[-1][0]})).status_code == 204


async def test_a_failed_answer_is_told_again_with_its_error(
    patient: Service, second: Replica, key: str, provider: ScriptedProvider
) -> None:
    provider.default = Reply(PIECES, cut_after=20, pause_seconds=0.01)
    async with patient.client(key) as first, second.client(key) as other:
        events = await cut_after(first, 4, {"message": QUESTION, "stream": True})
        path = f"/chat/messages/{events[0][1]['message_id']}/events"
        events += await rest_of(await other.get(path, headers={"Last-Event-ID": events[-1][0]}))
        again = await rest_of(await other.get(path))

    for told in (events, again):
        assert [data["type"] for _, data in told].count("error") == 1
        assert told[-1][1]["error"]["code"] == "provider_stream_interrupted"
    assert again[-1][1]["error"]["message"] == events[-1][1]["error"]["message"]


async def test_stop_in_another_process_ends_the_stream_well(
    patient: Service, second: Replica, key: str, provider: ScriptedProvider
) -> None:
    provider.default = Reply(("word ",) * 2000, pause_seconds=0.02)
    async with patient.client(key) as first, second.client(key) as other:
        body = {"message": QUESTION, "stream": True, "session_id": "sess_far"}
        events: list[Event] = []
        async with first.stream("POST", "/chat", json=body) as response:
            async for block in blocks(response):
                events.append(parsed(block))
                if len(events) == 6:
                    message_id = events[0][1]["message_id"]
                    stopped = await other.post(f"/chat/messages/{message_id}/stop")
        kept = (await stored(first, "sess_far"))[-1]

    said = "".join(data.get("delta", "") for _, data in events)
    end = events[-1][1]
    assert (end["type"], end["finish_reason"]) == ("done", "stopped")
    assert said == end["answer"] == kept["content"] == stopped.json()["answer"]
    assert (kept["status"], kept["finish_reason"]) == ("stopped", "stopped")
    assert [data["type"] for _, data in events].count("done") == 1


async def test_who_does_not_come_back_in_time_finds_the_answer_stopped(
    provider: ScriptedProvider, provider_service: Service
) -> None:
    provider.default = Reply(("word ",) * 500, pause_seconds=0.02)
    key, _ = await provider_service.new_key()  # of a service that waits for half a second
    async with provider_service.client(key) as client:
        await ingest(client)
        body = {"message": QUESTION, "stream": True, "session_id": "sess_left"}
        events = await cut_after(client, 4, body)
        async with asyncio.timeout(20):
            while (await stored(client, "sess_left"))[-1]["status"] == "streaming":
                await asyncio.sleep(0.05)
        path = f"/chat/messages/{events[0][1]['message_id']}/events"
        events += await rest_of(await client.get(path, headers={"Last-Event-ID": events[-1][0]}))

    said = "".join(data.get("delta", "") for _, data in events)
    assert events[-1][1]["finish_reason"] == "stopped"
    assert events[-1][1]["answer"] == said


async def test_a_new_question_takes_the_place_of_an_answer_that_nobody_reads(
    patient: Service, key: str, provider: ScriptedProvider
) -> None:
    provider.default = Reply(("word ",) * 500, pause_seconds=0.02)
    async with patient.client(key) as client:
        body = {"message": QUESTION, "stream": True, "session_id": "sess_again"}
        await cut_after(client, 4, body)
        provider.default = Reply(("Short.",))
        async with asyncio.timeout(20):
            while (response := await client.post("/chat", json=body | {"stream": False})).status_code == 409:
                await asyncio.sleep(0.05)
        statuses = [m["status"] for m in await stored(client, "sess_again")]

    assert response.json()["answer"] == "Short."
    assert statuses == ["complete", "stopped", "complete", "complete"]


async def test_last_event_id_of_another_question_is_refused(
    patient: Service, second: Replica, key: str
) -> None:
    async with patient.client(key) as first, second.client(key) as other:
        events = await cut_after(first, 3, {"message": QUESTION, "stream": True})
        headers = {"Last-Event-ID": events[-1][0]}
        for client in (first, other):
            body = {"message": "Something else?", "stream": True}
            response = await client.post("/chat", json=body, headers=headers)
            assert (response.status_code, response.json()["error"]["code"]) == (422, "another_question")
            for wrong in ("nonsense", "msg_1", "msg_1:-1", "msg_1:9999999999"):
                response = await client.post("/chat", json=body, headers={"Last-Event-ID": wrong})
                assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_event_id")
        path = f"/chat/messages/{events[0][1]['message_id']}/events"
        check(events + await rest_of(await other.get(path, headers=headers)))


async def test_a_websocket_resumes_what_another_process_streams(
    patient: Service, second: Replica, key: str
) -> None:
    far = Service(second.url, patient.app)
    async with socket_of(patient, key) as socket:
        await socket.send("user_message", message=QUESTION)
        messages = await socket.until("stream_chunk")
    async with socket_of(far, key) as socket:
        last = messages[-1]
        await socket.send("resume", message_id=last["message_id"], after=last["number"])
        messages += await socket.until("message_saved", "error")

    assert [m["type"] for m in messages[-2:]] == ["stream_end", "message_saved"]
    said = "".join(m["delta"] for m in messages if m["type"] == "stream_chunk")
    assert said == TEXT == messages[-2]["answer"]


@pytest.mark.slow
async def test_an_answer_whose_process_died_ends_with_an_error(
    database_url: str,
    patient: Service,
    key: str,
    provider: ScriptedProvider,
    tmp_path: Path,
) -> None:
    provider.default = Reply(("word ",) * 5000, pause_seconds=0.02)
    settings = {
        "DB_URL": database_url,
        "OPENAI_API_KEY": "sk-test-provider-key",
        "OPENAI_BASE_URL": provider.url,
        "EMBEDDING_MODEL": "scripted-embedding",
    }
    async with replica(tmp_path, **settings) as dying, dying.client(key) as client:
        events = await cut_after(client, 5, {"message": QUESTION, "stream": True})
        dying.process.kill()
    async with patient.client(key) as client:
        path = f"/chat/messages/{events[0][1]['message_id']}/events"
        rest = await rest_of(await client.get(path, headers={"Last-Event-ID": events[-1][0]}))

    assert [data["type"] for _, data in rest][-1] == "error"
    assert rest[-1][1]["error"]["code"] == "answer_broken_off"
