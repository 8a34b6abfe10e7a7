"""Chat models: from settings to a LlamaIndex LLM, one answer from it, and its failures as errors of ours.

A retry happens only before the first token, waits no longer than the limit,
and honours Retry-After. Whatever a provider sends, `generate` ends with a `Completion` or raises.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final, cast

import structlog
from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock

from app.core.bots import Provider
from app.core.errors import (
    AppError,
    ProviderError,
    ProviderStreamInterrupted,
    ProviderTimeout,
    ProviderUnavailable,
)
from app.core.usage import token_count
from app.rag import chat_replies
from app.rag.anthropic_chat import AnthropicChat
from app.rag.errors import ChatRefused
from app.rag.http_chat import HttpChat
from app.rag.ollama_chat import OllamaChat
from app.rag.openai_chat import OpenAIChat
from app.rag.provider_http import ProviderClient, ProviderConnectionError, ProviderTimeoutError

log = structlog.get_logger(__name__)

_BACKOFF_SECONDS: Final = 0.5
_GENEROSITY: Final = 0.1
"""Of the patience with a stream, which it may have on top: a new timer for each piece would cost as much as the piece."""
_MOST_CHARACTERS: Final = 2_000_000
"""Of an answer; no model gives one of a quarter of that."""
_OVERLOADED: Final = frozenset({408, 409, 429, 503, 529})
_MALFORMED: Final = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
"""What reading an answer raises that is no chat completion."""


@dataclass(frozen=True, slots=True)
class ChatModelConfig:
    """Where the chat model is and how long to wait for it; times in seconds."""

    model: str
    api_key: str = field(repr=False)
    base_url: str
    context_tokens: int
    connect_timeout: float
    first_token_timeout: float
    total_timeout: float
    max_retries: int
    max_retry_wait: float
    provider: Provider = Provider.OPENAI


@dataclass(frozen=True, slots=True)
class Turn:
    """A message for the model; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Completion:
    """How an answer ended: the reason (`stop`, `length`, …) and the provider's own token counts, if it gave any."""

    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None


class ChatModel:
    """A LlamaIndex LLM with the limits that every call to it keeps."""

    def __init__(self, llm: HttpChat, config: ChatModelConfig, client: ProviderClient) -> None:
        self.llm = llm
        self.config = config
        self._client = client
        self._circuit = client.circuits.of(config.base_url, config.model, config.api_key)

    def other(self, model: str) -> "ChatModel":
        """Another model of the same provider."""
        return build(replace(self.config, model=model), self._client)

    async def generate(
        self, turns: Sequence[Turn], *, temperature: float, max_tokens: int, stream: bool
    ) -> AsyncGenerator[str | Completion, None]:
        """Pieces of text, then one Completion. Closing the iterator closes the provider's stream.

        Raises ProviderUnavailable (ProviderPaused without asking), ProviderTimeout or ProviderError before the first piece,
        and ProviderStreamInterrupted or ProviderTimeout after it.
        """
        messages = [_message(turn) for turn in turns]
        options = {"temperature": temperature, "max_tokens": max_tokens}
        self._circuit.admit()
        outcome = self._circuit.given_up
        try:
            async with aclosing(self._attempts(messages, options, stream=stream)) as pieces:
                async for piece in pieces:
                    yield piece
            outcome = self._circuit.succeeded
        except (ProviderUnavailable, ProviderTimeout, ProviderStreamInterrupted):
            outcome = self._circuit.failed
            raise
        except ProviderError as error:  # a provider that says no is there; one that talks nonsense is not
            refused = isinstance(error.__cause__, ChatRefused)
            outcome = self._circuit.succeeded if refused else self._circuit.failed
            raise
        finally:
            outcome()

    async def _attempts(
        self, messages: list[ChatMessage], options: dict[str, Any], *, stream: bool
    ) -> AsyncGenerator[str | Completion, None]:
        attempt = self._stream if stream else self._whole
        patience = self.config.first_token_timeout if stream else self.config.total_timeout
        now = asyncio.get_running_loop().time
        end = now() + self.config.total_timeout
        try:
            async with asyncio.timeout_at(min(end, now() + patience)) as limit:
                for retries_left in range(self.config.max_retries, -1, -1):
                    started = False
                    try:
                        async with aclosing(attempt(messages, options)) as pieces:
                            async for piece in pieces:
                                started = True
                                yield piece
                                if (limit.when() or 0.0) < min(end, now() + patience):
                                    limit.reschedule(min(end, now() + (1 + _GENEROSITY) * patience))
                        return
                    except (ChatRefused, ProviderConnectionError, *_MALFORMED) as error:
                        if started:
                            raise ProviderStreamInterrupted from error
                        failure = _translate(error)
                        limit.reschedule(end)
                        await self._wait_before_retry(failure, retries_left)
                        limit.reschedule(min(end, now() + patience))
        except TimeoutError as error:
            raise ProviderTimeout from error

    async def complete(self, turns: Sequence[Turn], *, temperature: float, max_tokens: int) -> str:
        """A whole answer as one text, for the small tasks beside the conversation."""
        pieces = self.generate(turns, temperature=temperature, max_tokens=max_tokens, stream=False)
        async with aclosing(pieces):
            return "".join([piece async for piece in pieces if isinstance(piece, str)])

    async def _whole(
        self, messages: list[ChatMessage], options: dict[str, Any]
    ) -> AsyncGenerator[str | Completion, None]:
        response = await self.llm.achat(messages, **options)
        yield response.message.content or ""
        answer = cast("dict[str, Any]", response.raw)
        yield _completion(answer, answer["choices"][0].get("finish_reason") or "stop")

    async def _stream(
        self, messages: list[ChatMessage], options: dict[str, Any]
    ) -> AsyncGenerator[str | Completion, None]:
        finish_reason: object = None
        mender, length = chat_replies.Mender(), 0
        event: dict[str, Any] = {}
        async with aclosing(await self.llm.astream_chat(messages, **options)) as responses:
            async for response in responses:
                event = cast("dict[str, Any]", response.raw)
                if event["choices"]:
                    finish_reason = event["choices"][0].get("finish_reason") or finish_reason
                if response.delta and (text := mender.feed(response.delta)):
                    length += len(text)
                    if length > _MOST_CHARACTERS:
                        raise ValueError("an answer without end")
                    yield text
        if finish_reason is None:
            raise ValueError("the stream ended without a finish reason")
        if text := mender.flush():
            yield text
        yield _completion(event, finish_reason)

    async def _wait_before_retry(self, failure: AppError, retries_left: int) -> None:
        """Sleep until the next attempt, or raise the failure when there is none or the wait would be too long."""
        if retries_left == 0 or not isinstance(failure, ProviderUnavailable):
            raise failure
        wait = failure.retry_after_seconds
        if wait is None:
            wait = _BACKOFF_SECONDS * 2 ** (self.config.max_retries - retries_left)
        if wait > self.config.max_retry_wait:
            raise failure
        log.info("provider_retry", wait_seconds=wait, reason=failure.code)
        await asyncio.sleep(wait)


def _message(turn: Turn) -> ChatMessage:
    """As `ChatMessage(role=…, content=…)` makes it, which checks at ten times the cost what is known."""
    return ChatMessage.model_construct(
        role=MessageRole(turn.role),
        blocks=[TextBlock.model_construct(text=turn.content)],
        additional_kwargs={},
    )


def build(config: ChatModelConfig, client: ProviderClient) -> ChatModel:
    """A chat model of the provider, over one of the process's HTTP clients."""
    llm = _KINDS.get(config.provider, OpenAIChat)(
        model=config.model,
        context_tokens=config.context_tokens,
        base_url=config.base_url,
        api_key=config.api_key,
        client=client,
    )
    return ChatModel(llm, config, client)


_KINDS: Final[Mapping[Provider, type[HttpChat]]] = {
    Provider.ANTHROPIC: AnthropicChat,
    Provider.OLLAMA: OllamaChat,
}
"""All others speak as OpenAI does."""


def _completion(answer: dict[str, Any], finish_reason: object) -> Completion:
    usage = answer.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return Completion(
        chat_replies.finish_reason(finish_reason),
        token_count(counts.get("prompt_tokens")),
        token_count(counts.get("completion_tokens")),
    )


def _translate(error: Exception) -> AppError:
    """A failure before the first token, as an error with a status; never with the provider's text in it."""
    match error:
        case ProviderTimeoutError():
            failure: AppError = ProviderTimeout()
        case ChatRefused(status=status) if (
            status in _OVERLOADED or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        ):
            failure = ProviderUnavailable(
                details={"provider_status": status}, retry_after_seconds=error.retry_after_seconds
            )
        case ChatRefused(status=status):
            failure = ProviderError(_REFUSALS.get(status), details={"provider_status": status})
        case ProviderConnectionError():
            failure = ProviderUnavailable()
        case _:
            failure = ProviderError("The model provider sent an answer that is no chat completion.")
    failure.__cause__ = error
    return failure


_REFUSALS: Final = {
    400: "The model provider did not accept the request; check the model and its limits.",
    401: "The model provider did not accept the API key; check the bot's, or OPENAI_API_KEY.",
    403: "The model provider does not let this API key use the model; check both.",
    404: "The model provider does not know the model; check the model and the base URL.",
}
