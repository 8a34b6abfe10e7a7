"""From pages of text to chunks with vectors, by the settings of a collection."""

import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.chunking import ChunkingPlan, ChunkingSettings
from app.core.principal import Principal
from app.db.repositories.new_chunks import NewChunk
from app.rag import analysis, metering
from app.rag.analysis import Task
from app.rag.chunking import Chunk, Page
from app.rag.headings import Span
from app.services import embeddings, indexing, usage
from app.services.runtime import Runtime

_ELSEWHERE_FROM_CHARACTERS: Final = 2_000
"""Shorter texts are chunked in less time than a thread or a process costs."""

_EMBEDDED_AT_ONCE: Final = 512
_HELD_BYTES: Final = 64_000_000
"""Vectors beyond that are held in a file: a book of a million chunks must not be the end of the process."""

_STORED_AT_ONCE: Final = 500
"""Encoded on the event loop in some ten milliseconds."""

Cut = analysis.Cut
Vectors = NDArray[np.float16]


def plan_of(runtime: Runtime, own: ChunkingSettings) -> ChunkingPlan:
    """The collection's own settings where it has any, and never more than the embedding model reads."""
    size = min(own.size_tokens or runtime.chunk_size_tokens, runtime.embeddings.max_tokens)
    overlap = own.overlap_tokens
    if overlap is None:
        overlap = runtime.chunk_overlap_tokens
    return ChunkingPlan(size, min(overlap, size // 2), own.splitter)


async def cut(
    runtime: Runtime,
    pages: Sequence[Page],
    plan: ChunkingPlan,
    *,
    headings: Mapping[int, Sequence[Span]] | None = None,
    title: str = "",
) -> Cut:
    """The chunks of the pages, without holding up the event loop."""
    task = Task(pages, plan, headings, indexing.fixed_language(runtime.settings), title)
    if task.characters < _ELSEWHERE_FROM_CHARACTERS:
        return analysis.cut(task)
    return await runtime.analysts.cut(task)


async def embed(
    runtime: Runtime,
    principal: Principal,
    chunks: Sequence[Chunk],
    *,
    done: Callable[[float], None] = lambda _: None,
) -> Vectors:
    """A vector for each chunk, in half precision as they are stored; `done` is told the share that is.

    What a provider counts for them is in the ledger, on the principal's account, also when it fails in the midst of them.
    Raises ProviderError, ProviderUnavailable or ProviderTimeout.
    """
    model = runtime.embeddings
    vectors = _room_for(len(chunks), model.dimension)
    tally = metering.EmbeddingTally(model.name)
    async with usage.account(runtime, principal) as ledger:
        try:
            for start in range(0, len(chunks), _EMBEDDED_AT_ONCE):
                texts = [chunk.text for chunk in chunks[start : start + _EMBEDDED_AT_ONCE]]
                vectors[start : start + len(texts)] = await embeddings.texts(model, texts, tally.count)
                tally.estimate(texts)
                done((start + len(texts)) / len(chunks))
        finally:
            if (call := tally.call) is not None:
                ledger.note(call)
    return vectors


async def store(cut: Cut, vectors: Vectors, add: Callable[[Sequence[NewChunk]], Awaitable[None]]) -> None:
    """Hand the chunks to `add`, a bounded number at a time."""
    for start in range(0, len(cut.chunks), _STORED_AT_ONCE):
        part = slice(start, start + _STORED_AT_ONCE)
        await add(to_store(cut[part], vectors[part]))


def to_store(cut: Cut, vectors: Vectors) -> list[NewChunk]:
    """Chunks and what is known of them, as repositories take them."""
    return [
        NewChunk(
            ordinal=chunk.ordinal,
            page=chunk.page,
            start=chunk.start,
            end=chunk.end,
            text=chunk.text,
            language=language,
            terms=terms,
            embedding=vector,
            heading=heading,
        )
        for chunk, heading, language, terms, vector in zip(
            cut.chunks, cut.headings, cut.chunk_languages, cut.terms, vectors, strict=True
        )
    ]


def _room_for(count: int, dimension: int) -> Vectors:
    if 2 * count * dimension <= _HELD_BYTES:
        return np.empty((count, dimension), np.float16)
    with tempfile.TemporaryFile(prefix="ibid-") as file:  # mapped, so it lives on without its name
        return np.memmap(file, np.float16, mode="w+", shape=(count, dimension))
