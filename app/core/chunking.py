"""How documents are cut into chunks: what a collection may set, and the limits of it."""

from dataclasses import dataclass
from enum import StrEnum


class Splitter(StrEnum):
    """Where a chunk may end: at sentences, never across a heading, or with each line a chunk of its own."""

    SENTENCES = "sentences"
    HEADINGS = "headings"
    LINES = "lines"


@dataclass(frozen=True, slots=True)
class ChunkingSettings:
    """What a collection sets for itself; None leaves it to the service."""

    size_tokens: int | None = None
    overlap_tokens: int | None = None
    splitter: Splitter = Splitter.SENTENCES


@dataclass(frozen=True, slots=True)
class ChunkingPlan:
    """The settings that one document is cut by; sizes in tokens."""

    size_tokens: int
    overlap_tokens: int
    splitter: Splitter = Splitter.SENTENCES
