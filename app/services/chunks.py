"""From pages of text to chunks with vectors, by the settings of a collection."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.chunking import ChunkingPlan, ChunkingSettings
from app.db.repositories.documents import NewChunk
from app.rag import headings as heading_paths
from app.rag import splitting
from app.rag.chunking import Chunk, Page
from app.rag.headings import Span
from app.services import embeddings, indexing
from app.services.runtime import Runtime

_THREAD_FROM_CHARACTERS: Final = 2_000
"""Shorter texts are chunked in less time than a thread costs."""

_EMBEDDED_AT_ONCE: Final = 512
_HELD_BYTES: Final = 64_000_000
"""Vectors beyond that are held in a file: a book of a million chunks must not be the end of the process."""

_ANALYSED_AT_ONCE: Final = 1_000
_STORED_AT_ONCE: Final = 1_000

Vectors = NDArray[np.float16]
Terms = tuple[NDArray[np.int64], NDArray[np.float64]]


def plan_of(runtime: Runtime, own: ChunkingSettings) -> ChunkingPlan:
    """The collection's own settings where it has any, and never more than the embedding model reads."""
    size = min(own.size_tokens or runtime.settings.chunk_size_tokens, runtime.embeddings.max_tokens)
    overlap = own.overlap_tokens
    if overlap is None:
        overlap = runtime.settings.chunk_overlap_tokens
    return ChunkingPlan(size, min(overlap, size // 2), own.splitter)


@dataclass(frozen=True, slots=True)
class Cut:
    """A document's chunks, with the headings over each, its language, and its terms: their numbers and their weights."""

    chunks: list[Chunk]
    headings: list[str | None]
    chunk_languages: list[str]
    terms: list[Terms]

    @property
    def languages(self) -> list[str]:
        """The languages of the document, the commonest first."""
        return [language for language, _ in Counter(self.chunk_languages).most_common()]

    def __getitem__(self, part: slice) -> "Cut":
        return Cut(self.chunks[part], self.headings[part], self.chunk_languages[part], self.terms[part])


async def cut(
    runtime: Runtime,
    pages: Sequence[Page],
    plan: ChunkingPlan,
    *,
    headings: Mapping[int, Sequence[Span]] | None = None,
    title: str = "",
) -> Cut:
    """The chunks of the pages, without holding up the event loop; `headings` are those of each page, by its number.

    Title and headings are for the words alone: as part of what is embedded a title makes vectors worse.
    """
    if sum(len(page.text) for page in pages) < _THREAD_FROM_CHARACTERS:
        return _cut(runtime, pages, plan, headings or {}, title)
    return await asyncio.to_thread(_cut, runtime, pages, plan, headings or {}, title)


def _cut(
    runtime: Runtime,
    pages: Sequence[Page],
    plan: ChunkingPlan,
    headings: Mapping[int, Sequence[Span]],
    title: str,
) -> Cut:
    starts = {number: [start for start, _, _ in spans] for number, spans in headings.items()}
    chunks = splitting.split(pages, plan, headings=starts)
    found = Cut(chunks, heading_paths.paths(pages, chunks, headings), [], [])
    for start in range(0, len(chunks), _ANALYSED_AT_ONCE):
        some = slice(start, start + _ANALYSED_AT_ONCE)
        texts = [chunk.text for chunk in chunks[some]]
        for language, weights in indexing.analyse(
            runtime.settings, texts, title=title, headings=found.headings[some]
        ):
            found.chunk_languages.append(language)
            # As arrays they take a twelfth of the memory that dictionaries do.
            numbers = np.fromiter(weights.keys(), np.int64, len(weights))
            found.terms.append((numbers, np.fromiter(weights.values(), np.float64, len(weights))))
    return found


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
            terms=dict(zip(numbers.tolist(), weights.tolist(), strict=True)),
            embedding=vector,
            heading=heading,
        )
        for chunk, heading, language, (numbers, weights), vector in zip(
            cut.chunks, cut.headings, cut.chunk_languages, cut.terms, vectors, strict=True
        )
    ]


def _room_for(count: int, dimension: int) -> Vectors:
    if 2 * count * dimension <= _HELD_BYTES:
        return np.empty((count, dimension), np.float16)
    with tempfile.TemporaryFile(prefix="ibid-") as file:  # mapped, so it lives on without its name
        return np.memmap(file, np.float16, mode="w+", shape=(count, dimension))
