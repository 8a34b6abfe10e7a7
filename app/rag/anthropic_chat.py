"""Anthropic's messages endpoint as a LlamaIndex LLM; like `openai_chat`, without the provider's SDK and for its reasons.

A response's `raw` is in the words of OpenAI, so that everything behind it knows one form.
"""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole

from app.core.usage import token_count
from app.rag import chat_replies
from app.rag.chat_replies import Event
from app.rag.errors import ChatRefused
from app.rag.http_chat import HttpChat
from app.rag.provider_http import Stream

ANTHROPIC_BASE_URL: Final = "https://api.anthropic.com"

_API_VERSION: Final = "2023-06-01"
_HIGHEST_TEMPERATURE: Final = 1.0
_DATA: Final = b"data:"
_FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
_STATUS_OF_ERROR: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_SERVER_ERROR: Final = 500


class AnthropicChat(HttpChat):
    """Anthropic's messages; ChatRefused is raised for an error inside of a stream, too."""

    @staticmethod
    def url_under(base_url: str) -> str:
        return f"{base_url.removesuffix('/v1')}/v1/messages"

    @staticmethod
    def headers_with(api_key: str) -> Mapping[str, str]:
        version = {"anthropic-version": _API_VERSION}
        return {**version, "x-api-key": api_key} if api_key else version

    def _body(
        self, messages: Sequence[ChatMessage], *, stream: bool, temperature: float, max_tokens: int
    ) -> bytes:
        system, turns = _divided(messages)
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": max_tokens,
            "temperature": min(temperature, _HIGHEST_TEMPERATURE),
            "messages": turns,
        }
        if system:
            body["system"] = system
        if stream:
            body["stream"] = True
        return json.dumps(body).encode()

    @staticmethod
    def _read(content: bytes) -> tuple[str, Mapping[str, Any]]:
        answer = chat_replies.json_object(content)
        texts = [block["text"] for block in answer["content"] if block["type"] == "text"]
        return "".join(texts), _ended(answer.get("stop_reason"), answer.get("usage") or {})

    @staticmethod
    def _pieces(reply: Stream) -> AsyncGenerator[ChatResponse, None]:
        return chat_replies.pieces(reply, _Reader().event)


def _divided(messages: Sequence[ChatMessage]) -> tuple[str, list[dict[str, str]]]:
    """The instructions, and the conversation as it is taken: user and assistant in turns, the user first."""
    system = [message.content or "" for message in messages if message.role is MessageRole.SYSTEM]
    turns: list[dict[str, str]] = []
    for message in messages:
        if message.role is MessageRole.SYSTEM or not message.content:
            continue
        if turns and turns[-1]["role"] == message.role.value:
            turns[-1]["content"] += f"\n\n{message.content}"
        elif turns or message.role is MessageRole.USER:
            turns.append({"role": message.role.value, "content": message.content})
    return "\n\n".join(system), turns


class _Reader:
    """Of one stream: how it ends is told in several events."""

    def __init__(self) -> None:
        self._usage: dict[str, Any] = {}
        self._stop_reason: str | None = None

    def event(self, line: bytes) -> Event | None:
        if not line.startswith(_DATA):
            return None
        event = chat_replies.json_object(line[len(_DATA) :])
        match event["type"]:
            case "message_start":
                self._usage |= event["message"].get("usage") or {}
            case "content_block_delta" if event["delta"]["type"] == "text_delta":
                return Event(event["delta"]["text"])
            case "message_delta":
                self._stop_reason = event["delta"].get("stop_reason") or self._stop_reason
                self._usage |= event.get("usage") or {}
            case "message_stop":
                return Event(raw=_ended(self._stop_reason, self._usage), is_last=True)
            case "error":
                kind = str((event.get("error") or {}).get("type"))
                raise ChatRefused(status=_STATUS_OF_ERROR.get(kind, _SERVER_ERROR), retry_after_seconds=None)
        return None


def _ended(stop_reason: str | None, usage: dict[str, Any]) -> dict[str, Any]:
    parts = ("", "cache_creation_", "cache_read_")
    read = [token_count(usage.get(f"{part}input_tokens")) for part in parts]
    return chat_replies.in_words_of_openai(
        _FINISH_REASONS.get(stop_reason, stop_reason) if stop_reason else None,
        None if read[0] is None else sum(tokens or 0 for tokens in read),
        usage.get("output_tokens"),
    )
