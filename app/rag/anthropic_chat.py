"""Anthropic's messages endpoint as a LlamaIndex LLM; like `openai_chat`, without the provider's SDK and for its reasons.

A response's `raw` is in the words of OpenAI, so that everything behind it knows one form.
"""

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, NoReturn

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata, MessageRole
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms import CustomLLM

from app.rag import chat_replies
from app.rag.errors import ChatRefused
from app.rag.provider_http import ProviderClient, Stream

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


class AnthropicChat(CustomLLM):
    """Asynchronous chat only, over a client it does not own.

    Raises ChatRefused for an answer other than 200 and for an error inside of a stream, ProviderConnectionError when there is
    no answer, and ValueError, LookupError or TypeError when it is no message.
    """

    model: str
    context_tokens: int
    _client: ProviderClient = PrivateAttr()
    _url: str = PrivateAttr()
    _headers: dict[str, str] = PrivateAttr()

    def __init__(
        self, *, model: str, context_tokens: int, base_url: str, api_key: str, client: ProviderClient
    ) -> None:
        super().__init__(model=model, context_tokens=context_tokens)
        self._client = client
        self._url = f"{base_url.removesuffix('/v1')}/v1/messages"
        self._headers = {"Content-Type": "application/json", "anthropic-version": _API_VERSION}
        if api_key:
            self._headers["x-api-key"] = api_key

    @classmethod
    def class_name(cls) -> str:
        return "IbidAnthropicChat"

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=self.context_tokens, is_chat_model=True, model_name=self.model)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        reply = await self._client.post(
            self._url, self._body(messages, stream=False, **kwargs), self._headers
        )
        chat_replies.require_ok(reply.status, reply.headers)
        answer = chat_replies.json_object(reply.content)
        texts = [block["text"] for block in answer["content"] if block["type"] == "text"]
        return ChatResponse(
            message=ChatMessage(role=MessageRole.ASSISTANT, content="".join(texts)),
            raw=_ended(answer.get("stop_reason"), answer.get("usage") or {}),
        )

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> AsyncGenerator[ChatResponse, None]:
        """Pieces as they come: `delta` is new text (or None), `message` stays empty. Closing it closes the connection."""
        reply = await self._client.stream(
            self._url, self._body(messages, stream=True, **kwargs), self._headers
        )
        await chat_replies.require_open(reply)
        return _pieces(reply)

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

    def complete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError("use achat")

    def stream_complete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError("use astream_chat")


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


async def _pieces(reply: Stream) -> AsyncGenerator[ChatResponse, None]:
    usage: dict[str, Any] = {}
    stop_reason: str | None = None
    try:
        async for line in chat_replies.lines(reply):
            if not line.startswith(_DATA):
                continue
            event = chat_replies.json_object(line[len(_DATA) :])
            match event["type"]:
                case "message_start":
                    usage |= event["message"].get("usage") or {}
                case "content_block_delta" if event["delta"]["type"] == "text_delta":
                    yield chat_replies.piece(event["delta"]["text"], {"choices": []})
                case "message_delta":
                    stop_reason = event["delta"].get("stop_reason") or stop_reason
                    usage |= event.get("usage") or {}
                case "message_stop":
                    yield chat_replies.piece(None, _ended(stop_reason, usage))
                    return
                case "error":
                    kind = str((event.get("error") or {}).get("type"))
                    raise ChatRefused(
                        status=_STATUS_OF_ERROR.get(kind, _SERVER_ERROR), retry_after_seconds=None
                    )
    finally:
        await reply.aclose()


def _ended(stop_reason: str | None, usage: dict[str, Any]) -> dict[str, Any]:
    read = [usage.get(f"{part}input_tokens") for part in ("", "cache_creation_", "cache_read_")]
    return chat_replies.in_words_of_openai(
        _FINISH_REASONS.get(stop_reason, stop_reason) if stop_reason else None,
        None if read[0] is None else sum(tokens or 0 for tokens in read),
        usage.get("output_tokens"),
    )
