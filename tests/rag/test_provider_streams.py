"""A stream of a provider that was read to its last event gives its connection back, although the body ends a little later."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.core.config import Settings
from app.core.errors import ProviderStreamInterrupted
from app.providers import chat_model
from app.rag.llms import ChatModel, Turn
from app.rag.provider_http import HttpClient
from tests.fixtures.service import make_settings

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
SAID = b'data: {"choices": [{"delta": {"content": "Yes."}, "finish_reason": "stop"}]}\n\n'
LAST = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"
STREAMS = 5


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Provider:
    """Answers each request with the same stream, whose end it sends after a pause, or never."""

    def __init__(self, *parts: bytes, seconds_to_end: float | None) -> None:
        self.parts, self.seconds_to_end = parts, seconds_to_end
        self.connections = self.gone = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
                writer.write(HEAD + b"".join(map(chunk, self.parts)))
                if self.seconds_to_end is None:
                    await reader.read()
                    return
                await asyncio.sleep(self.seconds_to_end)
                writer.write(END)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.gone += 1
            writer.close()


@asynccontextmanager
async def asked(provider: Provider) -> AsyncIterator[tuple[ChatModel, HttpClient]]:
    async with await asyncio.start_server(provider.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings: Settings = make_settings(
            openai_api_key="sk-test", openai_base_url=f"http://127.0.0.1:{port}/v1", chat_model="scripted"
        )
        async with HttpClient(connect_timeout_seconds=5, read_timeout_seconds=30) as client:
            yield chat_model(settings, client), client


async def answered(model: ChatModel) -> str:
    pieces = model.generate([Turn("user", "Is it?")], temperature=0, max_tokens=9, stream=True)
    return "".join([piece async for piece in pieces if isinstance(piece, str)])


@pytest.mark.parametrize("seconds_to_end", [0.0, 0.05])
async def test_streams_one_after_the_other_take_one_connection(seconds_to_end: float) -> None:
    provider = Provider(SAID, LAST, seconds_to_end=seconds_to_end)
    async with asked(provider) as (model, _):
        for _ in range(STREAMS):
            assert await answered(model) == "Yes."
            await asyncio.sleep(2 * seconds_to_end)
    assert provider.connections == 1


async def test_who_asks_on_before_the_end_came_waits_for_nothing() -> None:
    provider = Provider(SAID, LAST, seconds_to_end=None)
    async with asked(provider) as (model, client), asyncio.timeout(20):
        assert [await answered(model) for _ in range(STREAMS)] == ["Yes."] * STREAMS
        assert provider.connections == STREAMS
        assert len(client._endings) == STREAMS


async def test_a_stream_that_never_ends_is_cut_off_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.rag.provider_http._ENDING_SECONDS", 0.1)
    provider = Provider(SAID, LAST, seconds_to_end=None)
    async with asked(provider) as (model, client), asyncio.timeout(20):
        assert await answered(model) == "Yes."
        while not provider.gone:
            await asyncio.sleep(0.01)
        assert not client._endings


async def test_a_stream_that_says_more_after_its_end_is_cut_off() -> None:
    provider = Provider(SAID, LAST, b": and one more thing\n\n" * 1_000, seconds_to_end=None)
    async with asked(provider) as (model, _), asyncio.timeout(20):
        assert await answered(model) == "Yes."
        while not provider.gone:
            await asyncio.sleep(0.01)


async def test_who_stops_reading_stops_the_provider() -> None:
    provider = Provider(SAID.replace(b'"stop"', b"null"), seconds_to_end=None)
    async with asked(provider) as (model, _), asyncio.timeout(20):
        pieces = model.generate([Turn("user", "Is it?")], temperature=0, max_tokens=9, stream=True)
        assert await anext(pieces) == "Yes."
        await pieces.aclose()
        while not provider.gone:
            await asyncio.sleep(0.01)


async def test_a_stream_without_its_last_event_is_interrupted_as_before() -> None:
    provider = Provider(SAID.replace(b'"stop"', b"null"), seconds_to_end=0.0)
    async with asked(provider) as (model, _), asyncio.timeout(20):
        with pytest.raises(ProviderStreamInterrupted):
            await answered(model)
