"""From pages of text to chunks with vectors, by the settings of a collection."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.chunking import ChunkingPlan, ChunkingSettings
from app.db.repositories.documents import NewChunk
from app.rag import splitting
from app.rag.chunking import Chunk, Page
from app.services import embeddings
from app.services.runtime import Runtime

_THREAD_FROM_CHARACTERS: Final = 2_000
"""Shorter texts are chunked in less time than a thread costs."""

_EMBEDDED_AT_ONCE: Final = 512
_HELD_BYTES: Final = 64_000_000
"""Vectors beyond that are held in a file: a book of a million chunks must not be the end of the process."""

_STORED_AT_ONCE: Final = 1_000

Vectors = NDArray[np.float16]
Vector = NDArray[np.float16]


def plan_of(runtime: Runtime, own: ChunkingSettings) -> ChunkingPlan:
    """The collection's own settings where it has any, and never more than the embedding model reads."""
    size = min(own.size_tokens or runtime.settings.chunk_size_tokens, runtime.embeddings.max_tokens)
    overlap = own.overlap_tokens
    if overlap is None:
        overlap = runtime.settings.chunk_overlap_tokens
    return ChunkingPlan(size, min(overlap, size // 2), own.splitter)


async def cut(
    pages: Sequence[Page], plan: ChunkingPlan, *, headings: Mapping[int, Sequence[int]] | None = None
) -> list[Chunk]:
    """The chunks of the pages, without holding up the event loop."""
    if sum(len(page.text) for page in pages) < _THREAD_FROM_CHARACTERS:
        return splitting.split(pages, plan, headings=headings)
    return await asyncio.to_thread(splitting.split, pages, plan, headings=headings)


async def embed(
    runtime: Runtime, chunks: Sequence[Chunk], *, done: Callable[[float], None] = lambda _: None
) -> Vectors:
    """A vector for each chunk, in half precision as they are stored; `done` is told the share that is.

    Raises ProviderError, ProviderUnavailable or ProviderTimeout.
    """
    vectors = _room_for(len(chunks), runtime.embeddings.dimension)
    for start in range(0, len(chunks), _EMBEDDED_AT_ONCE):
        texts = [chunk.text for chunk in chunks[start : start + _EMBEDDED_AT_ONCE]]
        vectors[start : start + len(texts)] = await embeddings.texts(runtime.embeddings, texts)
        done((start + len(texts)) / len(chunks))
    return vectors


async def store(
    chunks: Sequence[Chunk], vectors: Vectors, add: Callable[[Sequence[NewChunk]], Awaitable[None]]
) -> None:
    """Hand the chunks to `add`, a bounded number at a time."""
    for start in range(0, len(chunks), _STORED_AT_ONCE):
        end = start + _STORED_AT_ONCE
        await add(to_store(chunks[start:end], vectors[start:end]))


def to_store(chunks: Sequence[Chunk], vectors: Vectors) -> list[NewChunk]:
    """Chunks and their vectors, as repositories take them."""
    rows: Iterable[tuple[Chunk, Vector]] = zip(chunks, vectors, strict=True)
    return [
        NewChunk(
            ordinal=chunk.ordinal,
            page=chunk.page,
            start=chunk.start,
            end=chunk.end,
            text=chunk.text,
            embedding=vector,
        )
        for chunk, vector in rows
    ]


def _room_for(count: int, dimension: int) -> Vectors:
    if 2 * count * dimension <= _HELD_BYTES:
        return np.empty((count, dimension), np.float16)
    with tempfile.TemporaryFile(prefix="ibid-") as file:  # mapped, so it lives on without its name
        return np.memmap(file, np.float16, mode="w+", shape=(count, dimension))
