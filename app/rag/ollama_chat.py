"""Ollama's own chat endpoint as a LlamaIndex LLM; like `openai_chat`, without the provider's SDK and for its reasons.

Not its imitation of OpenAI's: there the context window can't be asked for, and what does not fit into the default of a few
thousand tokens is cut off without a word, the sources first. A response's `raw` is in the words of OpenAI.
"""

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, NoReturn

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata, MessageRole
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms import CustomLLM

from app.core.text import estimate_tokens
from app.rag import chat_replies
from app.rag.errors import ChatRefused
from app.rag.provider_http import ProviderClient, Stream

_SMALLEST_WINDOW: Final = 4096
_SERVER_ERROR: Final = 500


class OllamaChat(CustomLLM):
    """Asynchronous chat only, over a client it does not own.

    Raises ChatRefused for an answer other than 200 and for an error inside of a stream, ProviderConnectionError when there is
    no answer, and ValueError, LookupError or TypeError when it is no chat answer.
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
        self._url = f"{base_url.removesuffix('/v1').removesuffix('/api')}/api/chat"
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    @classmethod
    def class_name(cls) -> str:
        return "IbidOllamaChat"

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=self.context_tokens, is_chat_model=True, model_name=self.model)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        reply = await self._client.post(
            self._url, self._body(messages, stream=False, **kwargs), self._headers
        )
        chat_replies.require_ok(reply.status, reply.headers)
        answer = chat_replies.json_object(reply.content)
        content = answer["message"]["content"] or ""
        return ChatResponse(
            message=ChatMessage(role=MessageRole.ASSISTANT, content=content), raw=_ended(answer)
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

    def complete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError("use achat")

    def stream_complete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError("use astream_chat")


def _window(needed: int, most: int) -> int:
    """A power of two with room to spare: with each other size Ollama loads the model anew."""
    window = _SMALLEST_WINDOW
    while window < needed * 5 // 4:
        window *= 2
    return min(window, most)


async def _pieces(reply: Stream) -> AsyncGenerator[ChatResponse, None]:
    try:
        async for line in chat_replies.lines(reply):
            if not line.strip():
                continue
            event = chat_replies.json_object(line)
            if "error" in event:
                raise ChatRefused(status=_SERVER_ERROR, retry_after_seconds=None)
            text = event["message"].get("content")
            if not event["done"]:
                yield chat_replies.piece(text, {"choices": []})
                continue
            yield chat_replies.piece(text, _ended(event))
            return
    finally:
        await reply.aclose()


def _ended(answer: dict[str, Any]) -> dict[str, Any]:
    """The reason is missing in the answers of older versions."""
    return chat_replies.in_words_of_openai(
        answer.get("done_reason") or "stop", answer.get("prompt_eval_count"), answer.get("eval_count")
    )
