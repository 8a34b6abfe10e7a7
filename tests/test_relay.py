"""The relay of the benchmarks between a server and its provider: it changes nothing, and notes when streamed answers pass."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.lag import Lag
from benchmarks.load import Outcome
from benchmarks.processes import Server
from benchmarks.relay import Asking, Passage
from benchmarks.sides import Side

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def event(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


def words(text: str) -> bytes:
    return event(json.dumps({"choices": [{"delta": {"content": text}}]}))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


ROLE = event('{"choices":[{"delta":{"role":"assistant","content":""}}]}')
DONE = event("[DONE]")
ENDING = event('{"choices":[{"delta":{},"finish_reason":"stop"}]}') + event('{"choices":[],"usage":{}}')
STREAMED = HEAD + b"".join(map(chunk, (ROLE, words("One "), words("wörd."), ENDING + DONE))) + END
WHOLE = b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"choices":[]}'


def request(question: str, *, stream: bool, earlier: str = "Before?") -> bytes:
    messages = [
        {"role": "system", "content": "Answer."},
        {"role": "user", "content": earlier},
        {"role": "user", "content": question},
    ]
    body = json.dumps({"messages": messages, "stream": stream}).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


class Relayed:
    """A relay, and behind it a provider that sends these pieces for each request, the next one when it is told to."""

    def __init__(self, *answers: Sequence[bytes]) -> None:
        self.answers = iter(answers)
        self.passed: list[Passage] = []
        self.received = b""
        self.sent_at: list[float] = []
        self.may_send = asyncio.Semaphore(0)

    async def provide(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while received := await whole_request(reader):
            self.received += received
            for data in next(self.answers):
                await self.may_send.acquire()
                self.sent_at.append(time.monotonic())
                writer.write(data)
        writer.close()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        provider = await asyncio.start_server(self.provide, "127.0.0.1", 0)
        provider_port = provider.sockets[0].getsockname()[1]
        relay = await asyncio.get_running_loop().create_server(
            lambda: Asking(provider_port, self.passed.append), "127.0.0.1", 0
        )
        async with provider, relay:
            reader, writer = await asyncio.open_connection(*relay.sockets[0].getsockname())
            try:
                yield reader, writer
            finally:
                writer.close()

    async def next_piece(self, reader: asyncio.StreamReader, data: bytes) -> float:
        """When it had arrived."""
        self.may_send.release()
        assert await reader.readexactly(len(data)) == data
        return time.monotonic()


async def whole_request(reader: asyncio.StreamReader) -> bytes:
    """The next one of the connection; nothing after the last."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


async def test_a_streamed_answer_is_noted_by_the_last_question_with_the_moments_of_its_words_and_its_end() -> (
    None
):
    pieces = [
        HEAD,
        chunk(ROLE + words("One ")),
        chunk(words("more ")),
        chunk(words("word.")),
        chunk(ENDING),
        chunk(DONE) + END,
    ]
    relayed = Relayed(pieces)
    async with relayed.connected() as (reader, writer):
        writer.write(request("What is it?", stream=True))
        arrived_at = [await relayed.next_piece(reader, piece) for piece in pieces]
    assert [passage.question for passage in relayed.passed] == ["What is it?"]
    passage = relayed.passed[0]
    assert relayed.sent_at[1] <= passage.first <= arrived_at[1]
    assert relayed.sent_at[3] <= passage.last <= arrived_at[3]
    assert relayed.sent_at[5] <= passage.end <= arrived_at[5]


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_bytes_that_are_split_anywhere_pass_unchanged_and_are_understood(size: int) -> None:
    pieces = [STREAMED[start : start + size] for start in range(0, len(STREAMED), size)]
    relayed = Relayed(pieces)
    asked = request("Wörüber?", stream=True)
    async with relayed.connected() as (reader, writer):
        for start in range(0, len(asked), size):
            writer.write(asked[start : start + size])
            await asyncio.sleep(0)
        for piece in pieces:
            await relayed.next_piece(reader, piece)
    assert relayed.received == asked
    assert [passage.question for passage in relayed.passed] == ["Wörüber?"]


async def test_of_the_answers_on_one_connection_only_the_streamed_ones_are_noted() -> None:
    relayed = Relayed([WHOLE], [STREAMED], [WHOLE], [STREAMED])
    async with relayed.connected() as (reader, writer):
        for question, answer in (("a", WHOLE), ("b", STREAMED), ("c", WHOLE), ("d", STREAMED)):
            writer.write(request(question, stream=answer is STREAMED))
            await relayed.next_piece(reader, answer)
    assert [passage.question for passage in relayed.passed] == ["b", "d"]


async def test_a_stream_that_is_cut_off_is_not_noted_and_ends_for_who_asked() -> None:
    class Cutting(Relayed):
        async def provide(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await whole_request(reader)
            writer.write(begun)
            writer.close()

    begun = HEAD + chunk(words("One "))
    relayed = Cutting()
    async with relayed.connected() as (reader, writer):
        writer.write(request("What is it?", stream=True))
        assert await reader.read() == begun
    assert relayed.passed == []


def test_a_lag_is_counted_from_the_provider_s_own_moments_of_the_same_question() -> None:
    server = Server(pid=1, port=1, log=Path(), started_in_seconds=0.0)
    lag = Lag(Side("product", server, None, iter(())))
    # Answered in another order than asked; the second was refused without the provider, the fourth asked of it twice.
    arrivals = [
        (2, 30.5, 31.25, 32.75),
        (0, 10.25, 11.125, 12.5),
        (1, 20.0, 20.0, 20.0),
        (3, 40.0, 41.0, 42.0),
    ]
    passed = {
        "first": [Passage("first", 10.0, 11.0, 12.0)],
        "third": [Passage("third", 30.0, 31.0, 32.0)],
        "fourth": [Passage("fourth", 38.0, 38.5, 39.0), Passage("fourth", 39.0, 40.0, 41.0)],
    }
    lag.take(["first", "second", "third", "fourth"], Outcome(1.0, 1.0, arrivals=arrivals), passed)
    assert lag.first == [500, 250]
    assert lag.last == [250, 125]
    assert lag.end == [750, 500]
    assert lag.end_after_last == [1750, 1500]
    assert lag.unmatched == 2
