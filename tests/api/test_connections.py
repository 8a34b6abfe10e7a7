"""Clients that say too much, too little, or too slowly: answered in the one shape, or let go of; the others are served."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.api.test_bad_input import assert_error
from tests.fixtures.postgres import MakeDatabase
from tests.fixtures.service import Service, make_settings, running

HEAD_SECONDS = 2.0
BODY_SECONDS = 2.0


@pytest.fixture(scope="module")
async def hasty(make_database: MakeDatabase) -> AsyncIterator[Service]:
    """A service with little patience."""
    settings = make_settings(
        DB_URL=await make_database(),
        header_timeout_seconds=HEAD_SECONDS,
        body_timeout_seconds=BODY_SECONDS,
    )
    async with running(settings) as service:
        yield service


class Wire:
    """A connection that says just what a test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, text: bytes) -> None:
        self.writer.write(text)
        await self.writer.drain()

    async def hear(self) -> bytes:
        """All until the other side closes."""
        try:
            return await asyncio.wait_for(self.reader.read(), 60)
        except ConnectionResetError:
            return b""
        finally:
            self.writer.close()


async def connect(service: Service) -> Wire:
    return Wire(*await asyncio.open_connection("127.0.0.1", httpx.URL(service.url).port))


def error_of(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert set(error) == {"code", "message", "details", "request_id"}
    assert f"x-request-id: {error['request_id']}".encode() in head.lower()
    return int(head.split()[1]), error["code"]


async def test_who_says_nothing_is_let_go_of(hasty: Service) -> None:
    wire = await connect(hasty)

    assert await wire.hear() == b""


@pytest.mark.parametrize("beginning", [b"G", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_head_that_does_not_end_is_answered_408(hasty: Service, beginning: bytes) -> None:
    wire = await connect(hasty)
    await wire.say(beginning)

    assert error_of(await wire.hear()) == (408, "request_timeout")


async def test_a_head_that_trickles_is_cut_all_the_same(hasty: Service) -> None:
    wire = await connect(hasty)
    started = time.monotonic()

    async def trickle() -> None:
        try:
            await wire.say(b"GET /health HTTP/1.1\r\n")
            for number in range(600):
                await wire.say(f"X-{number}: y\r\n".encode())
                await asyncio.sleep(0.1)
        except ConnectionError:
            pass

    trickling = asyncio.create_task(trickle())
    heard = await wire.hear()
    trickling.cancel()

    assert heard == b"" or error_of(heard) == (408, "request_timeout")
    assert time.monotonic() - started < 55


async def test_the_next_request_of_a_connection_has_its_time_too(hasty: Service) -> None:
    wire = await connect(hasty)
    await wire.say(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    first = await wire.reader.readuntil(b"}")
    await asyncio.sleep(1.25 * HEAD_SECONDS)  # idle, which is another and longer wait
    await wire.say(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    second = await wire.reader.readuntil(b"}")
    await wire.say(b"GET /health")
    last = await wire.hear()

    assert b"200" in first.splitlines()[0]
    assert b"200" in second.splitlines()[0]
    assert error_of(last) == (408, "request_timeout")


@pytest.mark.parametrize("path", ["/auth/login", "/search"])
async def test_a_body_that_does_not_come_is_answered_408(hasty: Service, path: str) -> None:
    key, _ = await hasty.new_key()
    wire = await connect(hasty)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-API-Key: {key}\r\n"
    await wire.say(f'{head}Content-Length: 5000\r\n\r\n{{"query": '.encode())

    assert error_of(await wire.hear()) == (408, "request_timeout")


async def test_a_body_that_comes_steadily_may_take_longer(hasty: Service) -> None:
    key, _ = await hasty.new_key()
    content = json.dumps({"query": "x" * 7900}).encode()
    wire = await connect(hasty)
    head = f"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-API-Key: {key}\r\n"
    await wire.say(f"{head}Connection: close\r\nContent-Length: {len(content)}\r\n\r\n".encode())
    for start in range(0, len(content), 800):
        await wire.say(content[start : start + 800])
        await asyncio.sleep(0.25)
    answer = await wire.hear()

    assert answer.split()[1] == b"200"


async def test_slow_clients_do_not_keep_others_waiting(hasty: Service) -> None:
    wires = [await connect(hasty) for _ in range(200)]
    for wire in wires:
        await wire.say(b"GET /health HTTP/1.1\r\nX: ")
    async with hasty.client(None) as client:
        assert (await client.get("/health")).status_code == 200
    heard = await asyncio.gather(*(wire.hear() for wire in wires))

    assert {error_of(answer) for answer in heard} == {(408, "request_timeout")}


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        (b"nonsense\r\n\r\n", (400, "invalid_request")),
        (b"GET /health HTTP/1.1\r\n\r\n", (400, "invalid_request")),  # no Host
        (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (400, "invalid_request")),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            (400, "invalid_request"),
        ),
        (b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 300_000, (431, "head_too_large")),
        (b"GET /" + b"a" * 300_000, (431, "head_too_large")),
    ],
)
async def test_what_is_no_http_is_refused_in_the_one_shape(
    hasty: Service, request_text: bytes, expected: tuple[int, str]
) -> None:
    wire = await connect(hasty)
    with contextlib.suppress(ConnectionError):
        await wire.say(request_text)
    answer = await wire.hear()

    # A client that goes on sending after the refusal may lose it to a reset.
    assert (answer == b"" and expected[0] == 431) or error_of(answer) == expected


async def test_a_smuggled_second_request_is_not_seen(hasty: Service) -> None:
    wire = await connect(hasty)
    await wire.say(
        b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"
        b"0\r\n\r\nGET /documents HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    answer = await wire.hear()

    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.split()[1] == b"400"


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/health", {f"X-{number}": "y" for number in range(120)}, 431, "head_too_large"),
        ("/health", {"X-Long": "y" * 26_000}, 431, "head_too_large"),
        ("/" + "a" * 9_000, {}, 414, "target_too_long"),
        ("/documents?tag=" + "a" * 9_000, {}, 414, "target_too_long"),
        ("/documents?" + "&".join("a=b" for _ in range(2_500)), {}, 414, "target_too_long"),
    ],
)
async def test_a_head_past_the_limits_is_refused(
    service: Service, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    async with service.client(None) as client:
        assert_error(await client.get(path, headers=headers), status, code)


async def test_many_fields_of_one_object_are_refused(client: httpx.AsyncClient) -> None:
    bodies: list[dict[str, Any]] = [
        {"text": "a", "metadata": {f"k{number}": number for number in range(101)}},
        {"text": "a", **{f"k{number}": number for number in range(2_000)}},
        {"text": "a", "tags": ["t"] * 101},
    ]
    for body in bodies:
        error = assert_error(await client.post("/ingest", json=body), 422, "validation_error")
        assert len(error["details"]["problems"]) <= 20
