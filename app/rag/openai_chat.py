"""The chat completions endpoint of OpenAI and of the servers that imitate it, as a LlamaIndex LLM.

Not LlamaIndex's `OpenAILike`: through the openai SDK an answer costs 2.6 ms of CPU and every streamed token 0.17 ms, here
0.9 ms and 0.03 ms, which decides how many open streams one process can carry. It also leaves the provider's stream
open when its reader goes away.
"""

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, NoReturn

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata, MessageRole
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms import CustomLLM

from app.rag import chat_replies
from app.rag.provider_http import ProviderClient, Stream

_REASONING_MODELS: Final = ("o1", "o3", "o4", "gpt-5")
"""They take `max_completion_tokens`, and no temperature."""

_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"


class OpenAIChat(CustomLLM):
    """Asynchronous chat only, over a client it does not own.

    Raises ChatRefused for an answer other than 200, ProviderConnectionError when there is none, and ValueError, LookupError or
    TypeError when it is no chat completion. A response's `raw` is the provider's JSON.
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
        self._url = f"{base_url}/chat/completions"
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    @classmethod
    def class_name(cls) -> str:
        return "IbidOpenAIChat"

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=self.context_tokens, is_chat_model=True, model_name=self.model)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        reply = await self._client.post(
            self._url, self._body(messages, stream=False, **kwargs), self._headers
        )
        chat_replies.require_ok(reply.status, reply.headers)
        answer = json.loads(reply.content)
        content = answer["choices"][0]["message"]["content"] or ""
        return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=content), raw=answer)

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
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": message.role.value, "content": message.content} for message in messages],
        }
        if self.model.startswith(_REASONING_MODELS):
            body["max_completion_tokens"] = max_tokens
        else:
            body |= {"max_tokens": max_tokens, "temperature": temperature}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return json.dumps(body).encode()

    def complete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError("use achat")

    def stream_complete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError("use astream_chat")


async def _pieces(reply: Stream) -> AsyncGenerator[ChatResponse, None]:
    """One object, changed for each piece: making another takes longer than all that is done with it."""
    piece = ChatResponse(message=chat_replies.EMPTY)
    fields = piece.__dict__
    try:
        async for line in chat_replies.lines(reply):
            if not line.startswith(_DATA):
                continue
            data = line[len(_DATA) :].strip()
            if data == _DONE:
                return
            event = json.loads(data)
            if event.get("error"):  # some servers report a failure inside of the stream
                raise ValueError("the provider sent an error event")
            choices = event["choices"]
            delta = (choices[0].get("delta") or {}).get("content") if choices else None
            fields["delta"], fields["raw"] = delta, event
            yield piece
    finally:
        await reply.aclose()
