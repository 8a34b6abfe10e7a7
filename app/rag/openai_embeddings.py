"""The embeddings endpoint of OpenAI and of the servers that imitate it, over one shared HTTP client.

Not LlamaIndex's `OpenAIEmbedding`: that costs 2.2 ms of CPU a query (1.7 of them in the openai SDK) where this costs
0.7, knows only OpenAI's own models, and builds a retrying decorator for every call.
"""

import asyncio
import binascii
import json
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from app.core.usage import token_count
from app.rag.errors import (
    EmbeddingDimensionUnknown,
    EmbeddingTimeout,
    EmbeddingUnavailable,
    UnexpectedEmbedding,
)
from app.rag.provider_http import ProviderClient, ProviderConnectionError, ProviderTimeoutError, Reply

Vectors = NDArray[np.float32]
Counted = Callable[[int | None], None]
"""Told the tokens of each request as the provider counted them; None where it did not."""

_BATCH_TEXTS: Final = 128
# OpenAI takes 300,000 tokens a request, and a text never has more tokens than bytes.
_BATCH_BYTES: Final = 250_000
_REQUESTS_IN_FLIGHT: Final = 4
# A longer question is refused as a whole by OpenAI's models (8,191 tokens), so it loses its end instead.
_QUERY_BYTES: Final = 8_191
# Empty texts are refused too, and with them all others of their batch.
_BLANK: Final = "."

_RETRIES: Final = 2
_PASSING: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_LONGEST_PAUSE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Item:
    embedding: str | list[float]
    index: int | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    data: list[_Item]
    usage: Any = None


_ANSWER: Final = TypeAdapter(_Answer)
_REQUEST: Final = TypeAdapter(dict[str, Any])

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to send texts and how."""

    url: str
    model: str
    api_key: str | None = field(repr=False)
    timeout_seconds: float
    """Of one attempt, from the connection to the last byte."""
    requested_dimension: int | None = None
    """Sent to the provider; None leaves the length of the vectors to the model."""


class OpenAIEmbeddings:
    """Embeds texts through one endpoint and a client it does not own. Raises EmbeddingUnavailable."""

    def __init__(self, endpoint: Endpoint, *, client: ProviderClient, dimension: int | None) -> None:
        self._endpoint = endpoint
        self._client = client
        self._dimension = dimension
        self._slots = asyncio.Semaphore(_REQUESTS_IN_FLIGHT)
        self._headers = {"Content-Type": "application/json"}
        if endpoint.api_key:
            self._headers["Authorization"] = f"Bearer {endpoint.api_key}"

    @property
    def dimension(self) -> int:
        """Raises EmbeddingDimensionUnknown for a model of unknown length that has not answered yet."""
        if self._dimension is None:
            raise EmbeddingDimensionUnknown
        return self._dimension

    async def warm_up(self) -> None:
        """Learn the length of the vectors, if it isn't known, by embedding a word."""
        if self._dimension is None:
            await self.embed_query("dimension")

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """One vector, without waiting for the documents that are under way."""
        vectors = await self._embed([_first_bytes(text, _QUERY_BYTES)])
        vector: NDArray[np.float32] = vectors[0]
        return vector

    async def embed_texts(self, texts: Sequence[str], counted: Counted = lambda _: None) -> Vectors:
        """Vectors in the order of the texts: (len(texts), dimension). At most four requests run at a time."""
        if not texts:
            return np.empty((0, self._dimension or 0), np.float32)
        tasks = [asyncio.create_task(self._embed_in_turn(batch, counted)) for batch in batches(texts)]
        try:
            return np.concatenate(await asyncio.gather(*tasks))
        finally:
            # When one has failed the others must not go on spending money.
            for task in tasks:
                task.cancel()

    async def aclose(self) -> None:
        """Nothing to do: the client belongs to whoever opened it."""

    async def _embed_in_turn(self, texts: Sequence[str], counted: Counted) -> Vectors:
        async with self._slots:
            return await self._embed(texts, counted)

    async def _embed(self, texts: Sequence[str], counted: Counted = lambda _: None) -> Vectors:
        request: dict[str, Any] = {
            "model": self._endpoint.model,
            "input": [_BLANK if not text or text.isspace() else text for text in texts],
            "encoding_format": "base64",
        }
        if self._endpoint.requested_dimension is not None:
            request["dimensions"] = self._endpoint.requested_dimension
        response = await self._post_with_retries(_encoded(request))
        vectors, tokens = decode(response.content, count=len(texts))
        counted(tokens)
        if self._dimension is None:
            self._dimension = vectors.shape[1]
        if vectors.shape[1] != self._dimension:
            raise UnexpectedEmbedding(f"{vectors.shape[1]} dimensions instead of {self._dimension}")
        return vectors

    async def _post_with_retries(self, body: bytes) -> Reply:
        for attempt in range(_RETRIES):
            try:
                return await self._post(body)
            except EmbeddingUnavailable as error:
                if not _may_pass(error):
                    raise
                await asyncio.sleep(pause_seconds(attempt, error.retry_after_seconds))
        return await self._post(body)

    async def _post(self, body: bytes) -> Reply:
        timeout_seconds = self._endpoint.timeout_seconds
        try:
            # The client limits each read by itself, so a provider that trickles would never run into a limit.
            async with asyncio.timeout(timeout_seconds):
                reply = await self._client.post(self._endpoint.url, body, self._headers)
        except (TimeoutError, ProviderTimeoutError) as error:
            raise EmbeddingTimeout(f"{timeout_seconds:g} s") from error
        except ProviderConnectionError as error:
            raise EmbeddingUnavailable(str(error)) from error
        if reply.is_ok:
            return reply
        _log_refusal(reply, model=self._endpoint.model)
        raise EmbeddingUnavailable(
            f"status {reply.status}",
            status=reply.status,
            retry_after_seconds=retry_after_seconds(reply.headers),
        )


def _encoded(request: dict[str, Any]) -> bytes:
    """As JSON, in a fourth of the time that Python's own takes; that one knows how to write lone surrogates."""
    try:
        return _REQUEST.dump_json(request)
    except ValueError:
        return json.dumps(request).encode()


def batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Neighbours that fit into one request together."""
    start = size_bytes = 0
    for position, text in enumerate(texts):
        text_bytes = len(text) if text.isascii() else len(text.encode(errors="replace"))
        if position > start and (position - start == _BATCH_TEXTS or size_bytes + text_bytes > _BATCH_BYTES):
            yield texts[start:position]
            start, size_bytes = position, 0
        size_bytes += text_bytes
    if start < len(texts):
        yield texts[start:]


def decode(body: bytes, *, count: int) -> tuple[Vectors, int | None]:
    """The vectors of an answer, ordered by its `index`: in base64, or in numbers from servers without it; and its tokens.

    Raises UnexpectedEmbedding.
    """
    try:
        answer = _ANSWER.validate_json(body)
        items = answer.data
        rows = {place if item.index is None else item.index: item for place, item in enumerate(items)}
        vectors = _rows([rows.pop(place).embedding for place in range(count)])
    except (ValueError, LookupError) as error:
        raise UnexpectedEmbedding("its answer can't be read") from error
    if rows:
        raise UnexpectedEmbedding(f"{len(items)} vectors for {count} texts")
    # Neither has an angle to anything, which is what search compares.
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise UnexpectedEmbedding("a vector without usable numbers")
    usage = answer.usage if isinstance(answer.usage, dict) else {}
    return vectors, token_count(usage.get("prompt_tokens"))


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """What `Retry-After` asks for, as seconds or as a date; None when it says nothing usable."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if np.isfinite(seconds) else None


def pause_seconds(attempt: int, asked_seconds: float | None) -> float:
    """How long to wait after the failed `attempt` (from 0): what the provider asked for, at most 10 s."""
    if asked_seconds is not None:
        return min(asked_seconds, _LONGEST_PAUSE_SECONDS)
    return float(0.5 * 2**attempt * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load, hides nothing


def _may_pass(error: EmbeddingUnavailable) -> bool:
    if isinstance(error, EmbeddingTimeout):
        # Who has waited for a whole timeout is not made to wait for two more.
        return False
    return (
        error.status is None or error.status in _PASSING or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    )


def _rows(embeddings: Sequence[str | list[float]]) -> Vectors:
    """All at once where they are of one length, which is all of them but one by one a third of the work."""
    texts = [embedding for embedding in embeddings if isinstance(embedding, str) and embedding[-1:] != "="]
    if len(texts) == len(embeddings) and len(set(map(len, texts))) == 1 and len(texts[0]) % 16 == 0:
        numbers = np.frombuffer(binascii.a2b_base64("".join(texts), strict_mode=True), "<f4")
        return numbers.reshape(len(texts), -1)
    return np.stack([_row(embedding) for embedding in embeddings])


def _row(embedding: str | list[float]) -> NDArray[np.float32]:
    if isinstance(embedding, str):
        return np.frombuffer(binascii.a2b_base64(embedding, strict_mode=True), "<f4")
    return np.asarray(embedding, np.float32)


def _first_bytes(text: str, size_bytes: int) -> str:
    if len(text) * 4 <= size_bytes:
        return text
    return text.encode(errors="replace")[:size_bytes].decode(errors="ignore")


def _log_refusal(reply: Reply, *, model: str) -> None:
    """Log the provider's own code for it, not its message: some repeat the key, some the texts."""
    try:
        error = json.loads(reply.content)["error"]
        reason = {name: str(error[name])[:80] for name in ("type", "code") if error.get(name)}
    except (ValueError, TypeError, LookupError, AttributeError):
        reason = {}
    _logger.warning(
        "embedding request refused", extra={"status": reply.status, "model": model, "reason": reason}
    )
