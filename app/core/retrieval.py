"""The values that a search takes and gives, shared by the layers that ask, rank and store."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

Scalar = str | int | float | bool | None


class Operator(StrEnum):
    EQ = "eq"
    IN = "in"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on a document's metadata; `values` has one element unless the operator is IN."""

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


EVERYTHING: Final = SearchFilter()


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found, with what each leg of the search says of it.

    `score` is the fused relevance (0 to 1, higher is better), `similarity` the cosine to the question (-1 to 1), and
    `coverage` the share (0 to 1) of the question's weighed words that the chunk contains.
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

    def __post_init__(self) -> None:
        if not math.isfinite(self.score):
            raise ValueError("a score must be finite")
