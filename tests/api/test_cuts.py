"""A provider that breaks off, at every token: each client sees exactly one end, and what it saw is what is stored."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import pytest

from app.rag.circuits import CircuitState
from tests.api.test_provider_chat import FACTS, QUESTION, events_of, stored
from tests.fixtures.postgres import MakeDatabase
from tests.fixtures.provider import Reply, ScriptedProvider
from tests.fixtures.service import Service, make_settings, running
from tests.fixtures.simulator import Simulator, simulating
from tests.fixtures.sockets import socket_of

TOKENS: Final = 60
TRANSPORTS: Final = ("json", "sse", "websocket")
SIMULATED: Final = ("cut", "reset", "badchunk", "429", "500", "malformed", "hang", "nodone")
IN_MID_STREAM: Final = {
    "stall": None,
    "429": b'data: {"error": {"message": "Rate limit reached", "code": 429}}\n\n',
    "500": b'data: {"error": {"message": "The server had an error", "code": 500}}\n\n',
    "malformed": b'data: {"choices": [{"delta": \n\n',
    "no completion": b"data: [1, 2, 3]\n\n",
}
IMPATIENT: Final[dict[str, Any]] = {
    "openai_api_key": "sk-test-provider-key",
    "embedding_model": "local",
    "provider_first_token_timeout_seconds": 0.5,
    "provider_timeout_seconds": 20,
    "provider_max_retries": 1,
    "provider_max_retry_wait_seconds": 0,
}


@pytest.fixture(scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    async with simulating() as simulator:
        yield simulator


@pytest.fixture(scope="module")
async def simulated(make_database: MakeDatabase, simulator: Simulator) -> AsyncIterator[Service]:
    settings = make_settings(DB_URL=await make_database(), openai_base_url=simulator.url, **IMPATIENT)
    async with running(settings) as service:
        yield service


@pytest.fixture(scope="module")
async def scripted(make_database: MakeDatabase, shared_provider: ScriptedProvider) -> AsyncIterator[Service]:
    settings = make_settings(DB_URL=await make_database(), openai_base_url=shared_provider.url, **IMPATIENT)
    async with running(settings) as service:
        yield service


class Outcome:
    """What a client saw of one answer."""

    def __init__(self, types: list[str], text: str, ends: list[dict[str, Any]]) -> None:
        self.types, self.text, self.ends = types, text, ends


class Asker:
    """Asks the same question over any of the transports, each time in a session of its own."""

    def __init__(self, service: Service, key: str) -> None:
        self.service, self.key = service, key
        self.client = service.client(key)
        self.sessions = 0

    async def ask(self, transport: str) -> tuple[Outcome, dict[str, Any]]:
        """What came, and the answer's message as it is stored."""
        self.sessions += 1
        session_id = f"sess_{self.sessions}"
        outcome = await getattr(self, transport)({"message": QUESTION, "session_id": session_id})
        return outcome, (await stored(self.client, session_id))[-1]

    async def json(self, body: dict[str, Any]) -> Outcome:
        response = await self.client.post("/chat", json=body)
        if response.status_code == 200:
            answer = response.json()
            return Outcome(["done"], answer["answer"], [answer])
        return Outcome(["error"], "", [response.json()])

    async def sse(self, body: dict[str, Any]) -> Outcome:
        response = await self.client.post("/chat", json=body | {"stream": True})
        if response.status_code != 200:
            return Outcome(["error"], "", [response.json()])
        events = events_of(response.text)
        text = "".join(event["delta"] for event in events if event["type"] == "delta")
        ends = [event for event in events if event["type"] in ("done", "error")]
        return Outcome([event["type"] for event in events], text, ends)

    async def websocket(self, body: dict[str, Any]) -> Outcome:
        async with socket_of(self.service, self.key) as socket:
            await socket.send("user_message", **body)
            messages = await socket.until("stream_end", "error")
            await socket.send("ping")
            messages += await socket.until("pong")
        text = "".join(message["delta"] for message in messages if message["type"] == "stream_chunk")
        ends = [message for message in messages if message["type"] in ("stream_end", "error")]
        return Outcome([message["type"] for message in messages[:-1]], text, ends)


async def new_asker(service: Service) -> Asker:
    key, _ = await service.new_key()
    asker = Asker(service, key)
    assert (await asker.client.post("/ingest", json={"text": FACTS})).status_code == 200
    return asker


def check(outcome: Outcome, kept: dict[str, Any], *, whole: bool, context: object) -> None:
    assert len(outcome.ends) == 1, context
    end = outcome.ends[0]
    assert kept["content"] == outcome.text, context
    if whole:
        assert kept["status"] == "complete", context
        assert end["answer"] == outcome.text, context
    else:
        assert kept["status"] == ("interrupted" if outcome.text else "failed"), context
        assert kept["finish_reason"] == end["error"]["code"], context
        assert end["error"]["code"].startswith("provider_"), context


async def is_clean(service: Service) -> None:
    """No turn, no task of one and no connection in a transaction is left behind, here or in the database."""
    async with asyncio.timeout(30):
        while len(service.runtime.turns) or any(
            task.get_name() in ("turn", "relay") for task in asyncio.all_tasks()
        ):
            await asyncio.sleep(0.02)
    url = service.runtime.settings.db_url
    assert url is not None
    connection = await asyncpg.connect(url.get_secret_value())
    try:
        busy = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND state <> 'idle'"
        )
    finally:
        await connection.close()
    assert busy == 0


async def break_off(simulator: Simulator, service: Service, positions: range) -> None:
    """Every fault of the simulator over every transport; those in mid-stream at each of the positions."""
    asker = await new_asker(service)
    before = len(asyncio.all_tasks())
    for fault in SIMULATED:
        is_placed = fault in ("cut", "reset", "badchunk")
        for position in positions if is_placed else (0,):
            await simulator.control(
                reset=1, tokens=TOKENS, tps=3000, fault=fault, fault_after=position, retry_after=1
            )
            for transport in TRANSPORTS:
                if transport == "json" and position != positions[0]:
                    continue  # without a stream there are no tokens to break off between
                outcome, kept = await asker.ask(transport)
                # Neither is a fault of an answer that is not streamed.
                whole = transport == "json" and fault in ("badchunk", "nodone")
                check(outcome, kept, whole=whole, context=(fault, position, transport))
    await simulator.control(reset=1, tokens=TOKENS, tps=0)
    for transport in TRANSPORTS:
        outcome, kept = await asker.ask(transport)
        check(outcome, kept, whole=True, context=transport)
    await asker.client.aclose()
    await is_clean(service)
    async with asyncio.timeout(30):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.05)


async def break_in_mid_stream(
    provider: ScriptedProvider, service: Service, positions: range, transports: tuple[str, ...]
) -> None:
    """Faults inside of a stream that is open: silence, errors as events, nonsense."""
    asker = await new_asker(service)
    pieces = tuple(f"word{number} " for number in range(TOKENS))

    async def one(fault: str, position: int, transport: str) -> None:
        event = IN_MID_STREAM[fault]
        provider.default = Reply(pieces, fault_after=position, fault_event=event)
        outcome, kept = await asker.ask(transport)
        check(outcome, kept, whole=False, context=(fault, position, transport))
        expected = "".join(pieces[:position])
        # What arrives together with the break may be lost with it; what is shown is the beginning of the answer.
        assert expected.startswith(outcome.text.rstrip()), (fault, position, transport)

    for fault in IN_MID_STREAM:
        for position in positions:
            for transport in transports:
                await one(fault, position, transport)
    await asker.client.aclose()
    await is_clean(service)


async def test_each_fault_is_one_end_and_what_was_seen_is_stored(
    simulator: Simulator, simulated: Service
) -> None:
    await break_off(simulator, simulated, range(0, TOKENS + 1, 10))


async def test_each_fault_in_mid_stream_is_one_end(provider: ScriptedProvider, scripted: Service) -> None:
    await break_in_mid_stream(provider, scripted, range(0, TOKENS + 1, 20), ("sse", "websocket"))


@pytest.mark.parametrize("position", [0, 5])
async def test_a_provider_that_only_says_that_it_is_still_there_is_not_waited_for(
    provider: ScriptedProvider, scripted: Service, position: int
) -> None:
    provider.default = Reply(("word ",) * 10, fault_after=position, pings=True)
    asker = await new_asker(scripted)
    outcome, kept = await asker.ask("sse")
    await asker.client.aclose()

    check(outcome, kept, whole=False, context=position)
    assert outcome.ends[0]["error"]["code"] == "provider_timeout"
    assert outcome.text == ("word " * position).rstrip() or outcome.text == "word " * position


async def test_an_answer_that_takes_too_long_altogether_is_ended(
    make_database: MakeDatabase, provider: ScriptedProvider
) -> None:
    provider.default = Reply(("word ",) * 500, pause_seconds=0.05)
    values = IMPATIENT | {"provider_timeout_seconds": 1}
    settings = make_settings(DB_URL=await make_database(), openai_base_url=provider.url, **values)
    async with running(settings) as service:
        asker = await new_asker(service)
        outcome, kept = await asker.ask("sse")
        await asker.client.aclose()

    check(outcome, kept, whole=False, context="total")
    assert outcome.ends[0]["error"]["code"] == "provider_timeout"
    assert outcome.text.startswith("word word")


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_each_fault_at_every_token_is_one_end_and_what_was_seen_is_stored(
    simulator: Simulator, simulated: Service
) -> None:
    await break_off(simulator, simulated, range(TOKENS + 1))


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_each_fault_in_mid_stream_at_every_token_is_one_end(
    provider: ScriptedProvider, scripted: Service
) -> None:
    await break_in_mid_stream(provider, scripted, range(TOKENS + 1), ("sse", "websocket"))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_circuit_opens_and_closes(
    make_database: MakeDatabase, simulator: Simulator, transport: str
) -> None:
    settings = make_settings(
        DB_URL=await make_database(),
        openai_base_url=simulator.url,
        **IMPATIENT | {"provider_breaker_failures": 3, "provider_breaker_seconds": 2},
    )
    async with running(settings) as service:
        asker = await new_asker(service)
        await simulator.control(reset=1, fault="500")
        codes = [(await asker.ask(transport))[0].ends[0]["error"]["code"] for _ in range(5)]
        asked = (await simulator.control())["chat"]
        refused = await asker.client.post("/chat", json={"message": QUESTION})
        states = set(service.runtime.circuits.states().values())
        metrics = (await asker.client.get("/metrics")).text
        await simulator.control(reset=1)
        await asyncio.sleep(2.1)
        outcome, kept = await asker.ask(transport)
        closed = set(service.runtime.circuits.states().values())
        await asker.client.aclose()

    assert codes == ["provider_unavailable"] * 3 + ["provider_paused"] * 2
    assert asked == 3
    assert refused.status_code == 503
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    assert states == {CircuitState.OPEN}
    assert 'ibid_provider_circuits{state="open"} 1\n' in metrics
    assert 'ibid_provider_circuit_state{model="gpt-4.1-mini"} 2\n' in metrics
    assert "\nibid_turns 0\n" in metrics
    check(outcome, kept, whole=True, context=transport)
    assert closed == {CircuitState.CLOSED}
