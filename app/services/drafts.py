"""An answer as far as it has come: its text, its sources, and what it had to do without."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any, Final

from app.core.boxes import Box
from app.core.retrieval import Hit
from app.services.answers import Answer, AnswerDelta, DocumentProgress, Source, Usage
from app.services.passages import Early
from app.services.usage import Ledger

_SNIPPET_CHARACTERS: Final = 300
_SNIPPET_READ: Final = 400
"""Of a long passage, which is enough unless it is mostly space."""


@dataclass(slots=True)
class Draft:
    """The answer as far as it has come."""

    session_id: str
    message_id: str
    model: str
    started: float
    ledger: Ledger
    """What its model calls cost."""
    sources: tuple[Source, ...] = ()
    pieces: list[str] = field(default_factory=list)
    refused: bool = False
    finish_reason: str = "stop"
    fallback: str | None = None
    degraded: str | None = None
    pending: tuple[DocumentProgress, ...] = ()
    """Files of the session that could not be searched yet."""
    guardrails: dict[str, Any] | None = None
    """What they did: kinds and counts."""
    search: Early | None = None
    """Begun before the turn was stored, where what to search for was known."""

    @property
    def usage(self) -> Usage:
        return self.ledger.usage

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def end_search(self) -> None:
        """Whether or not it was of use."""
        if self.search is not None:
            self.search.discard()

    def add(self, piece: str) -> AnswerDelta:
        self.pieces.append(piece)
        return AnswerDelta(piece)

    def cite(self, numbers: Collection[int], supported: Callable[[int], bool | None]) -> None:
        """Say of each source whether the answer cites it: also of those that the words of another model cited before."""
        self.sources = tuple(
            replace(source, cited=True, supported=supported(source.n))
            if source.n in numbers
            else replace(source, cited=False, supported=None)
            if source.cited
            else source
            for source in self.sources
        )

    def answer(self) -> Answer:
        return Answer(
            session_id=self.session_id,
            message_id=self.message_id,
            answer=self.text,
            sources=self.sources,
            refused=self.refused,
            usage=self.usage,
            model=self.model,
            finish_reason=self.finish_reason,
            fallback=self.fallback,
            degraded=self.degraded,
            pending_documents=self.pending,
        )


def source_of(n: int, hit: Hit, boxes: tuple[Box, ...] | None) -> Source:
    """A passage as the answer names it."""
    return Source(
        n=n,
        document_id=hit.document_id,
        title=hit.title,
        source=hit.source,
        chunk_id=hit.chunk_id,
        page=hit.page,
        start=hit.start,
        end=hit.end,
        snippet=_snippet(hit.text),
        score=round(hit.score, 4),
        heading=hit.heading,
        boxes=boxes,
    )


def _snippet(text: str) -> str:
    """The beginning of a passage on one line, cut at a word."""
    line = " ".join(text[:_SNIPPET_READ].split())
    if len(line) <= _SNIPPET_CHARACTERS:
        line = " ".join(text.split())
    if len(line) <= _SNIPPET_CHARACTERS:
        return line
    return line[:_SNIPPET_CHARACTERS].rsplit(" ", 1)[0] + " …"
