"""The conversation over a WebSocket connection: who may open it, what it says, and how it ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.core.principal import SYSTEM, Scope
from tests.api.test_provider_chat import QUESTION, ingest, stored
from tests.fixtures.postgres import MakeDatabase
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service, make_settings, running
from tests.fixtures.sockets import Client, opened, socket_of


@pytest.fixture
async def key(provider: ScriptedProvider, provider_service: Service) -> str:
    key, _ = await provider_service.new_key()
    return key


@pytest.fixture
async def client(provider_service: Service, key: str) -> AsyncIterator[httpx.AsyncClient]:
    async with provider_service.client(key) as client:
        await ingest(client)
        yield client


@pytest.fixture
async def socket(provider_service: Service, client: httpx.AsyncClient, key: str) -> AsyncIterator[Client]:
    async with socket_of(provider_service, key) as socket:
        yield socket


async def test_a_question_is_answered_step_by_step(
    socket: Client, client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    provider.default = Reply(("Five ", "years ", "[1]", " [7]."), pause_seconds=0.02)

    await socket.send("user_message", message=QUESTION, session_id="sess_ws", ref="q1")
    messages = await socket.until("message_saved", "error")

    assert [m["type"] for m in messages[:2]] == ["stream_start", "sources"]
    assert [m["type"] for m in messages[-2:]] == ["stream_end", "message_saved"]
    assert {m["type"] for m in messages[2:-2]} == {"stream_chunk"}
    assert {m["ref"] for m in messages} == {"q1"}
    end = messages[-2]
    assert "".join(m["delta"] for m in messages[2:-2]) == end["answer"] == "Five years [1]."
    assert [m["number"] for m in messages[:-1]] == sorted({m["number"] for m in messages[:-1]})
    kept = (await stored(client, "sess_ws"))[-1]
    assert (kept["id"], kept["content"], kept["status"]) == (end["message_id"], end["answer"], "complete")


@pytest.mark.parametrize("path", ["/chat/ws", "/v1/chat/ws"])
async def test_the_first_message_says_who_it_is(provider_service: Service, key: str, path: str) -> None:
    async with opened(provider_service, path) as socket:
        await socket.send("authenticate", token=key)
        assert (await socket.receive())["type"] == "authenticated"
        await socket.send("ping", ref="p")
        assert await socket.receive() == {"type": "pong", "ref": "p"}


async def test_the_subprotocol_says_who_it_is_and_is_not_repeated(
    provider_service: Service, key: str
) -> None:
    async with opened(provider_service, subprotocols=["ibid", f"ibid.bearer.{key}"]) as socket:
        assert socket.connection.subprotocol == "ibid"
        assert (await socket.receive())["type"] == "authenticated"


async def test_a_ticket_opens_one_connection(provider_service: Service, client: httpx.AsyncClient) -> None:
    ticket = (await client.post("/chat/ws/ticket")).json()["ticket"]

    async with opened(provider_service, f"/chat/ws?ticket={ticket}") as socket:
        assert (await socket.receive())["type"] == "authenticated"
        await socket.send("user_message", message=QUESTION)
        assert (await socket.until("message_saved", "error"))[-1]["type"] == "message_saved"
    async with opened(provider_service, f"/chat/ws?ticket={ticket}") as socket:
        refused, code = await socket.rest()

    assert ([m["error"]["code"] for m in refused], code) == (["unauthenticated"], 4401)


async def test_a_ticket_is_stored_as_a_hash_and_without_the_credential(
    provider_service: Service, client: httpx.AsyncClient, key: str
) -> None:
    ticket = (await client.post("/chat/ws/ticket")).json()["ticket"]

    async with provider_service.runtime.database.unit_of_work(SYSTEM) as session:
        connection = await session.connection()
        rows = (
            (await connection.exec_driver_sql("SELECT CAST(t AS text) FROM socket_tickets t")).scalars().all()
        )

    assert rows
    assert not any(ticket in row or key in row for row in rows)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "authenticate", "token": "wrong"},
        {"type": "user_message", "message": "Hello?"},
        {"type": "ping"},
    ],
)
async def test_who_does_not_say_who_they_are_is_refused(
    provider_service: Service, message: dict[str, str]
) -> None:
    async with opened(provider_service) as socket:
        await socket.connection.send(json.dumps(message))
        refused, code = await socket.rest()

    assert ([m["error"]["code"] for m in refused], code) == (["unauthenticated"], 4401)


async def test_a_key_that_is_revoked_asks_nothing_more(
    provider_service: Service, client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    key, _ = await provider_service.new_key(frozenset({Scope.CHAT}))
    async with socket_of(provider_service, key) as socket:
        await socket.send("user_message", message=QUESTION)
        assert (await socket.until("message_saved", "error"))[-1]["type"] == "message_saved"
        await revoke(provider_service, key)
        await socket.send("user_message", message=QUESTION)
        refused = await socket.receive()

    assert refused["error"]["code"] == "unauthenticated"


async def revoke(service: Service, key: str) -> None:
    async with service.runtime.database.unit_of_work(SYSTEM) as session:
        connection = await session.connection()
        public = key.split("_")[1]
        await connection.exec_driver_sql(
            f"UPDATE api_keys SET revoked_at = now() WHERE public_part = '{public}'"
        )


async def test_pages_of_other_origins_are_refused(provider_service: Service, key: str) -> None:
    protocols = ["ibid", f"ibid.bearer.{key}"]
    with pytest.raises(InvalidStatus, match="403"):
        async with opened(provider_service, subprotocols=protocols, origin="https://evil.example"):
            pass
    async with opened(provider_service, subprotocols=protocols, origin=provider_service.url) as socket:
        assert (await socket.receive())["type"] == "authenticated"


async def test_a_key_without_the_scope_is_told_so(provider_service: Service) -> None:
    reader, _ = await provider_service.new_key(frozenset({Scope.READ}))
    async with socket_of(provider_service, reader) as socket:
        await socket.send("user_message", message=QUESTION, ref="r")
        refused = await socket.receive()

    assert (refused["error"]["code"], refused["ref"]) == ("missing_scope", "r")


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        "null",
        '{"type": "unknown"}',
        '{"message": "no type"}',
        '{"type": "user_message"}',
        '{"type": "user_message", "message": " "}',
        '{"type": "user_message", "message": "Hi", "extra": 1}',
        '{"type": "stop", "message_id": "../x"}',
        '{"type": "resume", "message_id": "msg_1", "after": -1}',
        b"binary",
    ],
)
async def test_a_message_that_is_none_is_told_so_and_the_connection_goes_on(
    provider_service: Service, key: str, text: str | bytes
) -> None:
    async with socket_of(provider_service, key) as socket:
        await socket.connection.send(text)
        refused = await socket.receive()
        await socket.send("ping")
        alive = await socket.receive()

    assert (refused["type"], refused["error"]["code"]) == ("error", "invalid_message")
    assert alive["type"] == "pong"


async def test_a_message_that_is_too_large_ends_the_connection(provider_service: Service, key: str) -> None:
    async with socket_of(provider_service, key) as socket:
        await socket.connection.send("x" * 200_000)
        _, code = await socket.rest()

    assert code == 1009


async def test_too_many_messages_end_the_connection(provider_service: Service, key: str) -> None:
    async with socket_of(provider_service, key) as socket:
        for _ in range(200):
            try:
                await socket.send("ping")
            except ConnectionClosed:
                break
        received, code = await socket.rest()

    assert received[-1]["error"]["code"] == "rate_limited"
    assert code == 1008


async def test_stop_ends_the_answer_and_keeps_it(
    socket: Client, client: httpx.AsyncClient, provider: ScriptedProvider
) -> None:
    provider.default = Reply(("word ",) * 200, pause_seconds=0.05)
    await socket.send("user_message", message=QUESTION, session_id="sess_stop")
    started = await socket.until("stream_chunk")

    await socket.send("stop", message_id=started[0]["message_id"])
    messages = started + await socket.until("message_saved", "error")

    assert [m["type"] for m in messages[-2:]] == ["stream_end", "message_saved"]
    end, saved = messages[-2:]
    assert (end["finish_reason"], saved["status"]) == ("stopped", "stopped")
    said = "".join(m["delta"] for m in messages if m["type"] == "stream_chunk")
    kept = (await stored(client, "sess_stop"))[-1]
    assert said == end["answer"] == kept["content"]
    assert kept["status"] == "stopped"
    async with asyncio.timeout(5):
        while provider.open_streams:
            await asyncio.sleep(0.02)
    assert provider.closed_early == 1


async def test_several_sessions_are_answered_at_once_and_one_session_once(
    socket: Client, provider: ScriptedProvider
) -> None:
    provider.default = Reply(("a ", "b ", "c"), delay_seconds=0.5)
    for number in (1, 2, 3):
        await socket.send("user_message", message=QUESTION, session_id=f"sess_{number}", ref=str(number))
    await socket.send("user_message", message=QUESTION, session_id="sess_1", ref="again")

    ends: dict[str, str] = {}
    while len(ends) < 4:
        message = await socket.receive()
        if message["type"] in ("stream_end", "error"):
            assert message["ref"] not in ends
            ends[message["ref"]] = message.get("answer") or message["error"]["code"]

    assert sorted(ends.items()) == [
        ("1", "a b c"),
        ("2", "a b c"),
        ("3", "a b c"),
        ("again", "session_busy"),
    ]


async def test_a_connection_follows_so_many_answers_and_no_more(
    socket: Client, provider: ScriptedProvider
) -> None:
    provider.default = Reply(("x",), delay_seconds=1)
    for number in range(17):
        await socket.send("user_message", message=QUESTION, ref=str(number))

    refused = [m for m in await socket.until("error") if m["type"] == "error"]

    assert refused[0]["error"]["code"] == "too_many_answers"


async def test_an_answer_is_resumed_on_another_connection(
    provider_service: Service, client: httpx.AsyncClient, key: str, provider: ScriptedProvider
) -> None:
    provider.default = Reply(tuple(f"{n} " for n in range(30)), pause_seconds=0.01)
    async with socket_of(provider_service, key) as first:
        await first.send("user_message", message=QUESTION)
        seen = await first.until("stream_chunk")
    async with socket_of(provider_service, key) as second:
        last = seen[-1]
        await second.send("resume", message_id=last["message_id"], after=last["number"])
        seen += await second.until("message_saved", "error")

    said = "".join(m["delta"] for m in seen if m["type"] == "stream_chunk")
    assert said == seen[-2]["answer"] == " ".join(map(str, range(30)))


async def test_somebody_elses_answer_is_not_found(
    provider_service: Service, socket: Client, provider: ScriptedProvider
) -> None:
    provider.default = Reply(("word ",) * 50, pause_seconds=0.02)
    await socket.send("user_message", message=QUESTION)
    message_id = (await socket.receive())["message_id"]
    stranger, _ = await provider_service.new_key()
    async with socket_of(provider_service, stranger) as other:
        for type in ("resume", "stop"):
            await other.send(type, message_id=message_id)
            assert (await other.receive())["error"]["code"] == "answer_not_found"
    messages = await socket.until("message_saved", "error")

    assert messages[-2]["finish_reason"] == "stop"


async def test_the_provider_failing_is_one_error(socket: Client, provider: ScriptedProvider) -> None:
    provider.default = Reply(status=401)

    await socket.send("user_message", message=QUESTION, ref="q")
    messages = await socket.until("error", "stream_end")
    await socket.send("ping")

    assert (messages[-1]["error"]["code"], messages[-1]["ref"]) == ("provider_error", "q")
    assert (await socket.receive())["type"] == "pong"


async def test_a_document_is_followed_over_it(
    provider_service: Service, socket: Client, client: httpx.AsyncClient
) -> None:
    files = {"file": ("note.txt", b"The office opens at nine. The kitchen is on the second floor.")}
    document_id = (await client.post("/documents", files=files)).json()[0]["document_id"]

    await socket.send("follow_document", document_id=document_id, ref="d")
    states: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not states or states[-1]["document"]["type"] == "progress":
            states.append(await socket.receive())

    assert {s["type"] for s in states} == {"document_progress"}
    assert states[-1]["document"]["type"] == "completed"
    await socket.send("follow_document", document_id="doc_unknown")
    assert (await socket.receive())["error"]["code"] == "document_not_found"


async def test_an_answer_ends_before_the_service_does_and_idle_connections_at_once(
    make_database: MakeDatabase, provider: ScriptedProvider
) -> None:
    provider.default = Reply(("One ", "two ", "three."), pause_seconds=0.3)
    settings = make_settings(
        DB_URL=await make_database(),
        openai_api_key="sk-test-provider-key",
        openai_base_url=provider.url,
        embedding_model="scripted-embedding",
        shutdown_timeout_seconds=30,
    )
    async with running(settings) as service:
        key, _ = await service.new_key()
        async with service.client(key) as http:
            await ingest(http)
        idle = opened(service, subprotocols=["ibid", f"ibid.bearer.{key}"])
        busy = opened(service, subprotocols=["ibid", f"ibid.bearer.{key}"])
        idle_socket, busy_socket = await idle.__aenter__(), await busy.__aenter__()
        await busy_socket.receive()
        await busy_socket.send("user_message", message=QUESTION)
        await busy_socket.until("sources")
        waiting = [asyncio.create_task(socket.rest()) for socket in (idle_socket, busy_socket)]
    (idle_messages, idle_code), (messages, code) = [await task for task in waiting]
    for manager in (idle, busy):
        await manager.__aexit__(None, None, None)

    assert [m["type"] for m in idle_messages] == ["authenticated", "error"]
    assert idle_messages[-1]["error"]["code"] == "service_stopping"
    assert (idle_code, code) == (1012, 1012)
    assert [m["type"] for m in messages[-3:]] == ["stream_end", "message_saved", "error"]
    assert messages[-3]["answer"] == "One two three."
