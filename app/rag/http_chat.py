"""What the chat models have in common that are asked over HTTP, as LlamaIndex LLMs: a provider says only where and in which words."""

from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata, MessageRole
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.instrumentation import DISPATCHER_SPAN_DECORATED_ATTR  # type: ignore[attr-defined]
from llama_index.core.llms import CustomLLM

from app.rag import chat_replies
from app.rag.provider_http import ProviderClient, Stream

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _without_span(method: _Method) -> _Method:
    """LlamaIndex opens a span around each call of a model, for which nothing here listens: 0.2 ms an answer."""
    setattr(method, DISPATCHER_SPAN_DECORATED_ATTR, True)
    return method


class HttpChat(CustomLLM):
    """Asynchronous chat only, over a client it does not own.

    Raises ChatRefused for an answer other than 200, ProviderConnectionError when there is none, and ValueError, LookupError or
    TypeError when it is no chat answer. A response's `raw` is in the words of OpenAI.
    """

    model: str
    context_tokens: int
    _client: ProviderClient = PrivateAttr()
    _url: str = PrivateAttr()
    _headers: Mapping[str, str] = PrivateAttr()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        for method in vars(cls).values():
            if callable(method):
                _without_span(method)  # LlamaIndex would open one around whatever is abstract here
        super().__init_subclass__(**kwargs)

    def __init__(
        self, *, model: str, context_tokens: int, base_url: str, api_key: str, client: ProviderClient
    ) -> None:
        super().__init__(model=model, context_tokens=context_tokens)
        self._client = client
        self._url = self.url_under(base_url)
        self._headers = {"Content-Type": "application/json", **self.headers_with(api_key)}

    @classmethod
    def class_name(cls) -> str:
        return f"Ibid{cls.__name__}"

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=self.context_tokens, is_chat_model=True, model_name=self.model)

    @_without_span
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        reply = await self._client.post(
            self._url, self._body(messages, stream=False, **kwargs), self._headers
        )
        chat_replies.require_ok(reply.status, reply.headers)
        text, raw = self._read(reply.content)
        return ChatResponse(
            message=ChatMessage(role=MessageRole.ASSISTANT, content=chat_replies.mended(text)), raw=raw
        )

    @_without_span
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> AsyncGenerator[ChatResponse, None]:
        """Pieces as they come: `delta` is new text (or None), `message` stays empty. Closing it closes the connection."""
        reply = await self._client.stream(
            self._url, self._body(messages, stream=True, **kwargs), self._headers
        )
        await chat_replies.require_open(reply)
        return self._pieces(reply)

    @staticmethod
    @abstractmethod
    def url_under(base_url: str) -> str:
        """Where chats go."""

    @staticmethod
    def headers_with(api_key: str) -> Mapping[str, str]:
        """Header fields beside the content type; the key is empty where there is none."""
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    @abstractmethod
    def _body(
        self, messages: Sequence[ChatMessage], *, stream: bool, temperature: float, max_tokens: int
    ) -> bytes:
        """The request."""

    @staticmethod
    @abstractmethod
    def _read(content: bytes) -> tuple[str, Mapping[str, Any]]:
        """The text of a whole answer, and its `raw`."""

    @staticmethod
    @abstractmethod
    def _pieces(reply: Stream) -> AsyncGenerator[ChatResponse, None]:
        """The pieces of a stream, which is closed in the end."""

    def complete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """LlamaIndex asks every LLM for this; it would hold up the event loop."""
        raise NotImplementedError("use achat")

    def stream_complete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError("use astream_chat")
