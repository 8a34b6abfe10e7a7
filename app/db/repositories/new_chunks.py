"""Chunks on their way into the database: a column each, encoded as PostgreSQL reads it.

What pgvector's own classes take 20 µs a chunk for is done here for all chunks at once: vectors come out as the bytes that
`app.db.vectors` passes on.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from struct import Struct
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pgvector import SparseVector

from app.core import ids
from app.core.retrieval import TERM_DIMENSION, WeighedTerms

_HALF_HEAD: Final = Struct(">HH")
_SPARSE_HEAD: Final = Struct(">iii")


class NewChunk(NamedTuple):
    """A chunk to store: offsets are code points into the text of its page, the embedding has one model's dimension.

    `terms` are made with the stemmer of its `language` (see `app.rag.terms`).
    """

    ordinal: int
    page: int
    start: int
    end: int
    text: str
    language: str
    terms: WeighedTerms
    embedding: NDArray[np.floating[Any]]
    heading: str | None = None
    """The headings that it stands under, the highest first."""


def sparse(terms: Mapping[int, float]) -> SparseVector:
    """Terms with their weights as the database keeps them; terms count from 1, the positions of a vector from 0."""
    return SparseVector({term - 1: weight for term, weight in terms.items()}, TERM_DIMENSION)


def columns(chunks: Sequence[NewChunk]) -> dict[str, Any]:
    """The chunks as parameters: one array a column, each chunk with a new id.

    An array of arrays would have to be rectangular, so the terms of all stand in one: those of a chunk from its
    `first_terms` to its `last_terms`. As text, which takes asyncpg less time than so many numbers do.
    """
    ends = list(accumulate((len(chunk.terms.numbers) for chunk in chunks), initial=0))
    terms = np.concatenate([chunk.terms.numbers for chunk in chunks]).tolist() if chunks else []
    return {
        "chunk_ids": ids.several(ids.Prefix.CHUNK, len(chunks)),
        "ordinals": [chunk.ordinal for chunk in chunks],
        "pages": [chunk.page for chunk in chunks],
        "starts": [chunk.start for chunk in chunks],
        "ends": [chunk.end for chunk in chunks],
        "texts": [chunk.text for chunk in chunks],
        "headings": [chunk.heading for chunk in chunks],
        "chunk_languages": [chunk.language for chunk in chunks],
        "terms": f"{{{str(terms)[1:-1]}}}",
        "first_terms": [end + 1 for end in ends[:-1]],
        "last_terms": ends[1:],
        "weights": _weights(chunks, ends),
        "embeddings": _embeddings(chunks),
    }


def _weights(chunks: Sequence[NewChunk], ends: Sequence[int]) -> list[bytes]:
    if not chunks:
        return []
    positions = (np.concatenate([chunk.terms.numbers for chunk in chunks]) - 1).astype(">i4").tobytes()
    weights = np.concatenate([chunk.terms.weights for chunk in chunks]).astype(">f4").tobytes()
    return [
        _SPARSE_HEAD.pack(TERM_DIMENSION, end - start, 0)
        + positions[4 * start : 4 * end]
        + weights[4 * start : 4 * end]
        for start, end in pairwise(ends)
    ]


def _embeddings(chunks: Sequence[NewChunk]) -> list[bytes]:
    if not chunks:
        return []
    vectors = np.stack([chunk.embedding for chunk in chunks]).astype(">f2")
    head, encoded = _HALF_HEAD.pack(vectors.shape[1], 0), vectors.tobytes()
    size = vectors.strides[0]
    return [head + encoded[start : start + size] for start in range(0, len(encoded), size)]
