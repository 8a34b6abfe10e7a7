"""The embedding model that the settings name: for LlamaIndex, and in bulk for ingestion."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NoReturn, Protocol
from urllib.parse import urlsplit

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from numpy.typing import NDArray

from app.rag import local_model
from app.rag.errors import InvalidEmbeddingSettings
from app.rag.local_model import SentenceEncoder, TokenIds
from app.rag.openai_embeddings import Counted, Endpoint, OpenAIEmbeddings
from app.rag.provider_http import ProviderClient

ProviderName = Literal["local", "openai"]
Vectors = NDArray[np.float32]

OPENAI_BASE_URL: Final = "https://api.openai.com/v1"

_LOCAL_NAMES: Final = frozenset({"local", "all-MiniLM-L6-v2", local_model.MODEL_NAME})
_OPENAI_DIMENSIONS: Final = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
_OPENAI_MAX_TOKENS: Final = 8_191
# Nearly every open model reads this much; many read no more.
_UNKNOWN_MAX_TOKENS: Final = 512
_NICENESS: Final = 10
# Bounds what is held as tokens at a time when a whole book is embedded.
_TEXTS_TOKENIZED_AT_ONCE: Final = 512
_MOST_THREADS: Final = 4
# Python floats for 1,000 vectors of 1,536 numbers hold up the event loop for 60 ms.
_VECTORS_LISTED_AT_ONCE: Final = 128


@dataclass(frozen=True, slots=True)
class EmbeddingConfig:
    """Which model embeds and how it is reached. The local one needs only `model`."""

    provider: ProviderName
    model: str
    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    dimension: int | None = None
    """None takes the model's own. Any other than its own is asked of the provider."""
    timeout_seconds: float = 60.0


def is_local(name: str) -> bool:
    """Whether this names the local model, which has several names."""
    return name in _LOCAL_NAMES


def same_model(name: str, other: str) -> bool:
    """Whether two names are of one model."""
    return name == other or (is_local(name) and is_local(other))


class Provider(Protocol):
    """What turns texts into vectors."""

    @property
    def dimension(self) -> int: ...

    async def embed_query(self, text: str) -> NDArray[np.float32]: ...

    async def embed_texts(self, texts: Sequence[str], counted: Counted = ...) -> Vectors: ...

    async def warm_up(self) -> None: ...

    async def aclose(self) -> None: ...


class LocalEmbeddings:
    """The local model over one session: a thread for questions, which never wait behind a document, and all cores for those.

    The threads for documents have a low priority, so that they take only what questions and requests leave.
    """

    def __init__(
        self, load: Callable[[], SentenceEncoder] = local_model.load, *, threads: int | None = None
    ) -> None:
        self._load = load
        self.threads = threads or min(_cores(), _MOST_THREADS)
        self._queries = ThreadPoolExecutor(1, thread_name_prefix="embed-query")
        self._documents = ThreadPoolExecutor(
            self.threads, thread_name_prefix="embed-documents", initializer=give_way
        )

    @property
    def dimension(self) -> int:
        return local_model.DIMENSION

    async def warm_up(self) -> None:
        """Load the model off the event loop and run it once on each thread. Raises LocalModelError."""
        await self.embed_texts(["document"])
        await self.embed_query("query")

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        return await asyncio.get_running_loop().run_in_executor(self._queries, self._encode, text)

    async def embed_texts(self, texts: Sequence[str], _: Counted = lambda _: None) -> Vectors:
        """Costs nothing, so nothing is counted. Goes batch by batch: documents take turns, and a cancelled one ends with the running batch."""
        loop = asyncio.get_running_loop()
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for start in range(0, len(texts), _TEXTS_TOKENIZED_AT_ONCE):
            window = texts[start : start + _TEXTS_TOKENIZED_AT_ONCE]
            parts = await loop.run_in_executor(self._documents, self._tokenize, window)
            token_ids = [ids for of_text in parts for ids in of_text]
            encoder = self._load()
            batches = encoder.batches(token_ids)
            found = np.empty((len(token_ids), self.dimension), np.float32)
            turns = [
                asyncio.create_task(self._run(encoder, batches, token_ids, found))
                for _ in range(self.threads)
            ]
            try:
                await asyncio.gather(*turns)
            finally:
                for turn in turns:
                    turn.cancel()
            vectors[start : start + len(window)] = local_model.joined(found, parts)
        return vectors

    async def _run(
        self,
        encoder: SentenceEncoder,
        batches: Iterator[list[int]],
        token_ids: Sequence[TokenIds],
        vectors: Vectors,
    ) -> None:
        """One batch after the other, of those that are left."""
        loop = asyncio.get_running_loop()
        for batch in batches:
            rows = [token_ids[position] for position in batch]
            vectors[batch] = await loop.run_in_executor(self._documents, encoder.run, rows)

    async def aclose(self) -> None:
        for executor in (self._queries, self._documents):
            executor.shutdown(wait=False, cancel_futures=True)

    # Loading, which takes 0.3 s the first time, happens inside so that it is never done on the event loop.
    def _tokenize(self, texts: Sequence[str]) -> list[list[TokenIds]]:
        return self._load().tokenize_whole(texts)

    def _encode(self, text: str) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = self._load().encode([text])[0]
        return vector


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def give_way() -> None:
    """Lower the priority of this thread, which on Linux is each thread's own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


class Embedder(BaseEmbedding):
    """Any provider as LlamaIndex sees it. Asynchronous only: other calls would hold up the event loop."""

    _provider: Provider = PrivateAttr()

    def __init__(self, provider: Provider, *, model_name: str) -> None:
        super().__init__(model_name=model_name)
        self._provider = provider

    @classmethod
    def class_name(cls) -> str:
        return "IbidEmbedding"

    async def _aget_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = (await self._provider.embed_query(query)).tolist()
        return vector

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors = await self._provider.embed_texts(texts)
        lists: list[list[float]] = []
        for start in range(0, len(vectors), _VECTORS_LISTED_AT_ONCE):
            lists += vectors[start : start + _VECTORS_LISTED_AT_ONCE].tolist()
            await asyncio.sleep(0)
        return lists

    async def aget_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[list[float]]:
        """All texts in one go: the provider makes the batches.

        The inherited method emits an event for every batch, which validates and copies all vectors in it.
        """
        return await self._aget_text_embeddings(texts)

    def _get_query_embedding(self, query: str) -> NoReturn:
        raise NotImplementedError("use aget_query_embedding")

    def _get_text_embedding(self, text: str) -> NoReturn:
        raise NotImplementedError("use aget_text_embedding_batch")


class EmbeddingModel:
    """The configured model: `embedder` for LlamaIndex, `embed_query` for searches, `embed_texts` for ingestion."""

    def __init__(
        self,
        implementation: Provider,
        *,
        provider: ProviderName,
        name: str,
        revision: str,
        max_tokens: int,
    ) -> None:
        self.embedder: BaseEmbedding = Embedder(implementation, model_name=name)
        self.provider: ProviderName = provider
        self.max_tokens = max_tokens
        """The longest text to embed in one piece, with the marks the model adds to it."""
        self._implementation = implementation
        self._identity = f"{name}@{revision}"

    @property
    def dimension(self) -> int:
        """Raises EmbeddingDimensionUnknown before `warm_up` for a model that we don't know."""
        return self._implementation.dimension

    @property
    def fingerprint(self) -> str:
        """model@revision/dimension/precision/max_tokens/prefixes. Vectors of two can't be compared."""
        return f"{self._identity}/{self.dimension}/f32/{self.max_tokens}/none"

    async def embed_query(self, text: str) -> list[float]:
        """The vector of a question, without the events that LlamaIndex would make of it. Raises EmbeddingUnavailable."""
        vector: list[float] = (await self._implementation.embed_query(text)).tolist()
        return vector

    async def embed_texts(self, texts: Sequence[str], counted: Counted = lambda _: None) -> Vectors:
        """Vectors of document texts in their order: (len(texts), dimension). Raises EmbeddingUnavailable."""
        return await self._implementation.embed_texts(texts, counted)

    @property
    def name(self) -> str:
        """As its provider calls it."""
        return self.embedder.model_name

    async def warm_up(self) -> None:
        """Load what loads lazily. Raises LocalModelError; EmbeddingUnavailable for a model we don't know."""
        await self._implementation.warm_up()

    async def aclose(self) -> None:
        """Let go of threads; the HTTP client belongs to whoever opened it."""
        await self._implementation.aclose()


def build(config: EmbeddingConfig, client: ProviderClient | None) -> EmbeddingModel:
    """The model of these settings; nothing is loaded or sent yet. Raises InvalidEmbeddingSettings."""
    return _build_local(config) if config.provider == "local" else _build_openai(config, client)


def _build_local(config: EmbeddingConfig) -> EmbeddingModel:
    if config.model not in _LOCAL_NAMES:
        raise InvalidEmbeddingSettings(f"the only local model is all-MiniLM-L6-v2, not {config.model}")
    if config.dimension not in (None, local_model.DIMENSION):
        raise InvalidEmbeddingSettings(f"the local model has {local_model.DIMENSION} dimensions")
    return EmbeddingModel(
        LocalEmbeddings(),
        provider="local",
        name=local_model.MODEL_NAME,
        revision=local_model.REVISION,
        max_tokens=local_model.MAX_TOKENS,
    )


def _build_openai(config: EmbeddingConfig, client: ProviderClient | None) -> EmbeddingModel:
    native = _OPENAI_DIMENSIONS.get(config.model)
    if native is not None and config.dimension is not None and config.dimension > native:
        raise InvalidEmbeddingSettings(f"{config.model} has at most {native} dimensions")
    if client is None:
        raise InvalidEmbeddingSettings("a remote model needs a client")
    endpoint = Endpoint(
        url=f"{_checked_base_url(config.base_url or OPENAI_BASE_URL)}/embeddings",
        model=config.model,
        api_key=_checked_key(config.api_key),
        timeout_seconds=config.timeout_seconds,
        requested_dimension=None if config.dimension == native else config.dimension,
    )
    return EmbeddingModel(
        OpenAIEmbeddings(endpoint, client=client, dimension=config.dimension or native),
        provider="openai",
        name=config.model,
        revision="api",
        max_tokens=_OPENAI_MAX_TOKENS if native else _UNKNOWN_MAX_TOKENS,
    )


def _checked_base_url(text: str) -> str:
    url = text.strip()
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InvalidEmbeddingSettings("the base URL can't be read") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidEmbeddingSettings("the base URL must begin with http:// or https://")
    return url.rstrip("/")


def _checked_key(api_key: str | None) -> str | None:
    """Otherwise the HTTP library would refuse it later with an error that contains it."""
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InvalidEmbeddingSettings("the API key has characters that a key can't have")
    return key or None
