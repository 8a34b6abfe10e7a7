"""The values that a search takes and gives, shared by the layers that ask, rank and store."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

TERM_DIMENSION: Final = 1_000_000_000
"""Terms of the full text search are numbers from 1 to this, the most that a sparse vector of pgvector has."""


class WeighedTerms(NamedTuple):
    """The terms of a chunk, ascending, and the weight of each: a fortieth of the memory that a dictionary takes."""

    numbers: NDArray[np.int32]
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, terms: Mapping[int, float]) -> Self:
        numbers = sorted(terms)
        return cls(np.array(numbers, np.int32), np.array([terms[n] for n in numbers], np.float32))

    def as_mapping(self) -> dict[int, float]:
        return dict(zip(self.numbers.tolist(), self.weights.tolist(), strict=True))


Scalar = str | int | float | bool | None


class Operator(StrEnum):
    EQ = "eq"
    IN = "in"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on a document's metadata; `values` has one element unless the operator is IN.

    EXISTS has a bool: whether the key is there.
    """

    key: str
    operator: Operator
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """What may be found. Fields are combined by AND, the values within one field by OR; None does not filter."""

    collection_ids: tuple[str, ...] | None = None
    document_ids: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    metadata: tuple[Condition, ...] = ()
    title: str | None = None
    """What the title contains, in any case."""
    created: tuple[tuple[Operator, datetime], ...] = ()
    """Bounds of when the document came."""
    session_collection_id: str | None = None
    """The files of the session that is asked in, beside what `collection_ids` None reaches: those of no other session."""

    @property
    def selects(self) -> bool:
        """Whether it filters by anything but collections."""
        places = SearchFilter(
            collection_ids=self.collection_ids, session_collection_id=self.session_collection_id
        )
        return self != places


EVERYTHING: Final = SearchFilter()


@dataclass(frozen=True, slots=True)
class QueryTerm:
    """A term of a question: which of its words it stands for, with which share of that word's weight, in which languages."""

    term: int
    share: float
    word: int
    languages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trust:
    """How far a question's vector is trusted beside its words (`weight`, 0 to 1).

    `spread` is the difference in cosine that counts as much as all of the words; where the candidates differ by more, that.
    """

    weight: float
    spread: float


@dataclass(frozen=True, slots=True)
class Query:
    """A question as both legs of the search want it."""

    embedding: Sequence[float]
    terms: Sequence[QueryTerm]
    trust: Trust


@dataclass(frozen=True, slots=True)
class Scope:
    """What a search reaches, as it was some seconds ago: how many chunks, and the part of them in each language."""

    chunks: int
    languages: Mapping[str, float]
    rows: int
    """The chunks of all organizations together, as the database estimates them."""


@dataclass(slots=True)
class Hit:
    """A chunk that was found, with what each leg of the search says of it.

    `score` is the fused relevance (0 to 1, higher is better), `similarity` the cosine to the question (-1 to 1), and
    `coverage` the share (0 to 1) of the question's weighed words that the chunk contains. `lexical` is the BM25 of its
    terms, and the ranks are those of each leg among the candidates, if they were asked for. `heading` is the path of headings
    that it stands under, `pages` how many its document has, `has_layout` whether it is of a format
    that says where on a page a text stands. `relevance` (0 to 1) is how
    much it has to do with the question, `needed` how much it should have to be answered from, and
    `doubt` (0 to 1) how far it is from being surely about its subject.
    """

    chunk_id: str
    document_id: str
    collection_id: str
    title: str
    source: str | None
    page: int
    start: int
    end: int
    text: str
    score: float
    similarity: float
    coverage: float
    lexical: float = 0.0
    dense_rank: int | None = None
    lexical_rank: int | None = None
    heading: str | None = None
    pages: int = 1
    has_layout: bool = False
    relevance: float = 0.0
    needed: float = 0.0
    doubt: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.score):
            raise ValueError("a score must be finite")
