"""A relay between a server and its provider that notes when streamed answers pass it: `python -m benchmarks.relay {…} --port PORT`.

Every byte goes on unchanged as soon as it is here, and is looked at afterwards. A moment is taken just before the bytes that
complete a piece are passed on, of the clock that all processes of a machine share.
"""

import argparse
import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import httptools

_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Passage:
    """When a streamed answer passed: its first and its last piece with words, and its end."""

    question: str
    first: float
    last: float
    end: float


def passages_in(lines: str) -> list[Passage]:
    """What the relay noted."""
    return [Passage(**json.loads(line)) for line in lines.splitlines()]


class Questions:
    """Reads the requests of a connection; `asked` has those still unanswered, None where it is no stream that is asked for."""

    def __init__(self) -> None:
        self.asked: deque[str | None] = deque()
        self._body: list[bytes] = []
        self._parser: Any = httptools.HttpRequestParser(self)

    def read(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, piece: bytes) -> None:
        self._body.append(piece)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        self.asked.append(_streamed_question(body))


def _streamed_question(body: bytes) -> str | None:
    """The last message of the user, in a request for a chat answer that is streamed."""
    try:
        request = json.loads(body)
    except ValueError:
        return None
    if not isinstance(request, dict) or not request.get("stream"):
        return None
    said = [message["content"] for message in request.get("messages", ()) if message["role"] == "user"]
    return said[-1] if said and isinstance(said[-1], str) else None


class Answers:
    """Reads the responses of a connection, and tells `note` of each streamed answer that has ended."""

    def __init__(self, questions: Questions, note: Callable[[Passage], None]) -> None:
        self._questions = questions
        self._note = note
        self._parser: Any = httptools.HttpResponseParser(self)
        self._question: str | None = None
        self._moment = 0.0

    def read(self, data: bytes, moment: float) -> None:
        self._moment = moment
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        asked = self._questions.asked
        self._question = asked.popleft() if asked else None
        self._unread = b""
        self._first = self._last = 0.0

    def on_body(self, piece: bytes) -> None:
        if self._question is None:
            return
        *lines, self._unread = (self._unread + piece).split(b"\n")
        for line in lines:
            if line.startswith(_DATA):
                self._event(self._question, line.removeprefix(_DATA).strip())

    def _event(self, question: str, data: bytes) -> None:
        if data == _DONE:
            if self._first:
                self._note(Passage(question, self._first, self._last, self._moment))
        elif _has_words(data):
            self._first = self._first or self._moment
            self._last = self._moment


def _has_words(data: bytes) -> bool:
    return any(choice["delta"].get("content") for choice in json.loads(data).get("choices", ()))


class Asking(asyncio.Protocol):
    """A connection of the server that asks; each has one of its own to the provider."""

    def __init__(self, provider_port: int, note: Callable[[Passage], None]) -> None:
        self._provider_port = provider_port
        self._questions = Questions()
        self._answering = Answering(self, Answers(self._questions, note))
        self._early: list[bytes] = []
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: self._answering, "127.0.0.1", self._provider_port
            )
        except OSError:
            self.transport.close()
            return
        for data in self._early:
            self._pass_on(data)

    def data_received(self, data: bytes) -> None:
        if self._connecting.done():
            self._pass_on(data)
        else:
            self._early.append(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._connecting.cancel()
        if self._answering.transport is not None:
            self._answering.transport.close()

    def _pass_on(self, data: bytes) -> None:
        assert self._answering.transport is not None
        self._answering.transport.write(data)
        self._questions.read(data)


class Answering(asyncio.Protocol):
    """The connection to the provider."""

    def __init__(self, asking: Asking, answers: Answers) -> None:
        self._asking = asking
        self._answers = answers
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        moment = time.monotonic()
        self._asking.transport.write(data)
        self._answers.read(data, moment)

    def connection_lost(self, _: Exception | None) -> None:
        self._asking.transport.close()


async def serve(port: int, provider_port: int, notes: Path) -> None:
    with notes.open("a", buffering=1) as file:

        def note(passage: Passage) -> None:
            file.write(json.dumps(asdict(passage)) + "\n")

        server = await asyncio.get_running_loop().create_server(
            lambda: Asking(provider_port, note), "127.0.0.1", port
        )
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configuration", type=json.loads)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    configuration = arguments.configuration
    # Not uvloop: it sends what is written only when the callback has returned, so after the bytes were looked at.
    asyncio.run(serve(arguments.port, configuration["provider_port"], Path(configuration["notes"])))


if __name__ == "__main__":
    main()
