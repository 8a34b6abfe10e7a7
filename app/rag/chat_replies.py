"""What the chat providers' answers have in common, however each of them words the rest."""

import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole

from app.rag.errors import ChatRefused
from app.rag.openai_embeddings import retry_after_seconds
from app.rag.provider_http import Stream

EMPTY: Final = ChatMessage(role=MessageRole.ASSISTANT, content="")


_MOST_LINE_BYTES: Final = 4 * 1024 * 1024
_WORD: Final = re.compile(r"[A-Za-z0-9_.:\- ]{1,64}")
_NOTHING_MORE: Final[Mapping[str, Any]] = {"choices": []}


class Event(NamedTuple):
    """What a line of a stream says: text, how the answer ended (in the words of OpenAI), or that it is over."""

    text: str | None = None
    raw: Mapping[str, Any] | None = None
    is_last: bool = False


Read = Callable[[bytes], Event | None]
"""A line's event, None where it has none. Raises what makes the answer a failed one."""


class Mender:
    """The text of an answer as it can be stored and sent: halves of a character are joined, also across pieces, and what has no
    other half is replaced; NUL characters go.
    """

    def __init__(self) -> None:
        self._half = ""

    def feed(self, piece: str) -> str:
        """The part that can't change any more."""
        if piece.isascii() and not self._half:
            return piece.replace("\0", "")
        piece, self._half = self._half + piece, ""
        if piece and "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        return _joined(piece)

    def flush(self) -> str:
        """What was still held back when the answer ended."""
        half, self._half = self._half, ""
        return _joined(half)


def mended(text: str) -> str:
    """The same for a whole answer."""
    return _joined(text)


def _joined(text: str) -> str:
    text = text.replace("\0", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def finish_reason(value: Any) -> str:
    """Why an answer ended, as a word for programs."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else "stop"


async def pieces(reply: Stream, read: Read) -> AsyncGenerator[ChatResponse, None]:
    """The answer of a stream, which is closed in the end. What has arrived together is one piece: each goes through a dozen hands.

    It is one object, changed for each piece: making another takes longer than all that is done with it.
    """
    piece = ChatResponse(message=EMPTY)
    fields = piece.__dict__
    try:
        async for lines in _batches(reply):
            said: list[str] = []
            failure: Exception | None = None
            is_over = False
            for line in lines:
                try:
                    event = read(line)
                except Exception as error:  # whatever it is: what was said before it is told first
                    failure = error
                    break
                if event is None:
                    continue
                if event.text:
                    said.append(event.text)
                if event.raw is not None:
                    fields["delta"], fields["raw"] = "".join(said), event.raw
                    said.clear()
                    yield piece
                if event.is_last:
                    is_over = True
                    break
            if said:
                fields["delta"], fields["raw"] = "".join(said), _NOTHING_MORE
                yield piece
            if failure is not None:
                raise failure
            if is_over:
                reply.let_end()
                return
    finally:
        await reply.aclose()


async def _batches(reply: Stream) -> AsyncGenerator[list[bytes], None]:
    """The lines of the body, those together that came together. JSON has no raw line ends, so no event is cut."""
    rest = b""
    async for chunk in reply.pieces():
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > _MOST_LINE_BYTES:
            raise ValueError("a line without end")
        if whole:
            yield whole
    if rest:
        yield [rest]


def require_ok(status: int, headers: Mapping[str, str]) -> None:
    """Raises ChatRefused."""
    if status != HTTPStatus.OK:
        raise ChatRefused(status=status, retry_after_seconds=retry_after_seconds(headers))


async def require_open(reply: Stream) -> None:
    """The same for a stream, which is closed when it is none. Raises ChatRefused."""
    try:
        require_ok(reply.status, reply.headers)
    except ChatRefused:
        await reply.aclose()
        raise


def in_words_of_openai(
    finish_reason: str | None, prompt_tokens: int | None, completion_tokens: int | None
) -> dict[str, Any]:
    """How an answer ended, as OpenAI would say it: what reads the answers knows one form."""
    return {
        "choices": [{"finish_reason": finish_reason}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens},
    }


def json_object(data: bytes) -> dict[str, Any]:
    """Raises ValueError for anything else."""
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 what a provider sends is a value, not a mistake of types
    return value
