"""The guards that an answer passes on its way to the reader, in the order in which none can undo another's work."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from app.rag.citations import CitationFilter
from app.rag.guardrails.leaks import LeakGuard
from app.rag.guardrails.links import LinkGuard
from app.rag.guardrails.masking import Redactor, Restorer
from app.rag.no_answer import NoAnswerFilter


class Stage(Protocol):
    """Lets a stream of text through; holds back what may still change."""

    def feed(self, delta: str) -> str: ...

    def flush(self) -> str: ...


class AnswerGuard:
    """Lets an answer through, piece by piece, as it may be shown.

    First the marker of a refusal, then personal data put back or hidden, then the citations; the guards of links and of the
    prompt see what the reader will, so nothing that an earlier one takes out can join what they look for.
    """

    def __init__(
        self,
        *,
        no_answer: NoAnswerFilter | None = None,
        restorer: Restorer | None = None,
        redactor: Redactor | None = None,
        citations: CitationFilter | None = None,
        links: LinkGuard | None = None,
        leaks: LeakGuard | None = None,
    ) -> None:
        stages: Sequence[Stage | None] = (no_answer, restorer, redactor, citations, links, leaks)
        self._stages = [stage for stage in stages if stage is not None]
        self._no_answer, self._redactor, self._links, self._leaks = no_answer, redactor, links, leaks

    def feed(self, delta: str) -> str:
        """The part of the answer that can be shown now."""
        for stage in self._stages:
            if not delta:
                return ""
            delta = stage.feed(delta)
        return delta

    def flush(self) -> str:
        """What was still held back when the answer ended."""
        text = ""
        for stage in self._stages:
            text = (stage.feed(text) if text else "") + stage.flush()
        return text

    @property
    def declined(self) -> bool:
        """Whether the model has said that the sources hold no answer."""
        return self._no_answer is not None and self._no_answer.declared

    @property
    def leaked(self) -> bool:
        """Whether the answer was about to repeat its prompt; nothing comes through any more."""
        return self._leaks is not None and self._leaks.leaked

    @property
    def removed(self) -> Counter[str]:
        """How many images, links and tags were taken out."""
        return self._links.removed if self._links is not None else Counter()

    @property
    def redacted(self) -> Counter[str]:
        """How many pieces of personal data were hidden from the reader, by kind."""
        found: Counter[str] = Counter()
        if self._redactor is not None:
            found.update({kind.value: count for kind, count in self._redactor.masked.items()})
        return found
