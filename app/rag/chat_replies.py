"""What the chat providers' answers have in common, however each of them words the rest."""

import json
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from typing import Any, Final

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole

from app.rag.errors import ChatRefused
from app.rag.openai_embeddings import retry_after_seconds
from app.rag.provider_http import Stream

EMPTY: Final = ChatMessage(role=MessageRole.ASSISTANT, content="")


async def lines(reply: Stream) -> AsyncGenerator[bytes, None]:
    """The lines of the body. JSON has no raw line ends, so splitting bytes never cuts a character's event."""
    rest = b""
    async for chunk in reply.pieces():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest


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


def piece(delta: str | None, raw: Mapping[str, Any]) -> ChatResponse:
    """A piece of a stream; `raw` in the words of OpenAI."""
    return ChatResponse.model_construct(message=EMPTY, delta=delta, raw=raw)


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
