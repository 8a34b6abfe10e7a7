"""Ollama's own chat endpoint as a LlamaIndex LLM; like `openai_chat`, without the provider's SDK and for its reasons.

Not its imitation of OpenAI's: there the context window can't be asked for, and what does not fit into the default of a few
thousand tokens is cut off without a word, the sources first. A response's `raw` is in the words of OpenAI.
"""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final

from llama_index.core.base.llms.types import ChatMessage, ChatResponse

from app.core.text import estimate_tokens
from app.rag import chat_replies
from app.rag.chat_replies import Event
from app.rag.errors import ChatRefused
from app.rag.http_chat import HttpChat
from app.rag.provider_http import Stream

_SMALLEST_WINDOW: Final = 4096
_SERVER_ERROR: Final = 500


class OllamaChat(HttpChat):
    """Ollama's chats; ChatRefused is raised for an error inside of a stream, too."""

    @staticmethod
    def url_under(base_url: str) -> str:
        return f"{base_url.removesuffix('/v1').removesuffix('/api')}/api/chat"

    def _body(
        self, messages: Sequence[ChatMessage], *, stream: bool, temperature: float, max_tokens: int
    ) -> bytes:
        needed = sum(estimate_tokens(message.content or "") for message in messages) + max_tokens
        body = {
            "model": self.model,
            "messages": [{"role": message.role.value, "content": message.content} for message in messages],
            "stream": stream,
            "options": {
                "temperature": temperature,
                "num_predict": max_tokens,
                "num_ctx": _window(needed, self.context_tokens),
            },
        }
        return json.dumps(body).encode()

    @staticmethod
    def _read(content: bytes) -> tuple[str, Mapping[str, Any]]:
        answer = chat_replies.json_object(content)
        return answer["message"]["content"] or "", _ended(answer)

    @staticmethod
    def _pieces(reply: Stream) -> AsyncGenerator[ChatResponse, None]:
        return chat_replies.pieces(reply, _event)


def _window(needed: int, most: int) -> int:
    """A power of two with room to spare: with each other size Ollama loads the model anew."""
    window = _SMALLEST_WINDOW
    while window < needed * 5 // 4:
        window *= 2
    return min(window, most)


def _event(line: bytes) -> Event | None:
    if not line.strip():
        return None
    event = chat_replies.json_object(line)
    if "error" in event:
        raise ChatRefused(status=_SERVER_ERROR, retry_after_seconds=None)
    text = event["message"].get("content")
    return Event(text, _ended(event), is_last=True) if event["done"] else Event(text)


def _ended(answer: dict[str, Any]) -> dict[str, Any]:
    """The reason is missing in the answers of older versions."""
    return chat_replies.in_words_of_openai(
        answer.get("done_reason") or "stop", answer.get("prompt_eval_count"), answer.get("eval_count")
    )
