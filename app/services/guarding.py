"""The guardrails of one turn: what the provider may see, what may reach the reader, and the record of both.

The record has kinds and counts, never what was found.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from app.core.bots import Bot, Guardrails, PiiPolicy, Unsupported
from app.core.counters import counters
from app.core.retrieval import Hit
from app.rag import headings, prompts, refusals
from app.rag.citations import CitationFilter
from app.rag.guardrails import instructions
from app.rag.guardrails.answers import AnswerGuard
from app.rag.guardrails.kinds import PiiKind
from app.rag.guardrails.leaks import LeakGuard
from app.rag.guardrails.links import LinkGuard
from app.rag.llms import Turn
from app.rag.no_answer import NoAnswerFilter
from app.rag.prompts import AnswerPrompt, PromptSource

if TYPE_CHECKING:
    from app.rag.guardrails.masking import Redactor, Restorer, Vault

log = structlog.get_logger(__name__)

OUT_OF_SCOPE: Final = "out_of_scope"
NOT_RELEVANT: Final = "not_relevant"
NO_ANSWER: Final = "no_answer"
PROMPT_LEAK: Final = "prompt_leak"
_ALL_KINDS: Final = frozenset(PiiKind)


class Guard:
    """What happens to the texts of one turn by the rules of its bot."""

    def __init__(self, bot: Bot) -> None:
        self._rules: Guardrails = bot.guardrails
        self._bot = bot
        self._kinds = _kinds(self._rules)
        self._vault = _vault(self._rules, self._kinds)
        self._asked = self.asked = ""
        self._orders = self._dropped = 0
        self._citations = CitationFilter(())
        self._verdicts: dict[int, list[bool | None]] = {}
        self._answer: AnswerGuard | None = None
        self._refused_because: str | None = None

    # Towards the provider

    def question(self, text: str) -> str:
        """What the person who asks has written, as a provider may see it."""
        self._asked, self.asked = text, self.said_by_caller(text)
        return self.asked

    def said_by_caller(self, text: str) -> str:
        """What they say beside the question, as a provider may see it."""
        return text if self._vault is None else self._vault.mask(text, own=True)

    def history(self, turns: Sequence[Turn]) -> list[Turn]:
        """The conversation so far, as a provider may see it."""
        if self._vault is None:
            return list(turns)
        return [
            replace(turn, content=self._vault.mask(turn.content, own=turn.role == "user")) for turn in turns
        ]

    def said_by_model(self, text: str) -> str:
        """What a model wrote for our own use, with the values in their places."""
        return text if self._vault is None else self._vault.restore(text)

    def prompt(self, hits: Sequence[Hit]) -> AnswerPrompt:
        """The system message with these sources."""
        orders = instructions.counts(tuple(hit.text for hit in hits))
        return prompts.answer_prompt(
            [
                self._source(n, hit, count > 0)
                for n, (hit, count) in enumerate(zip(hits, orders, strict=True), start=1)
            ],
            persona=self._bot.persona,
            language=self._bot.language,
            masked=self._vault is not None and not self._vault.is_empty,
        )

    def _source(self, n: int, hit: Hit, gives_orders: bool) -> PromptSource:
        title = headings.place(hit.title, hit.heading, page=hit.page if hit.pages > 1 else None)
        text = hit.text
        if gives_orders:
            self._orders += 1
            # Enough to find the place by; what it says stays out of the log.
            log.warning("source_gives_orders", document_id=hit.document_id, chunk_id=hit.chunk_id)
        if self._vault is not None:
            title, text = self._vault.mask(title), self._vault.mask(text)
        return PromptSource(n, title, text, gives_orders)

    # Towards the reader

    def of_model(self, prompt: AnswerPrompt, hits: Sequence[Hit]) -> AnswerGuard:
        """What a model's answer passes."""
        sources = {n: (hit.title, hit.text) for n, hit in enumerate(hits, start=1)}
        self._verdicts = {}  # on another model's answer, which nobody has seen
        self._citations = CitationFilter(sources, lambda said, numbers: self._judged(said, numbers, sources))
        self._answer = AnswerGuard(
            no_answer=NoAnswerFilter(),
            restorer=self._restorer(),
            redactor=self._redactor(),
            citations=self._citations,
            links=LinkGuard(_linkable(hits)),
            leaks=LeakGuard(prompt.secret, *prompt.wording, known=[*(hit.text for hit in hits), self._asked]),
        )
        return self._answer

    def of_quotes(self, hits: Sequence[Hit]) -> AnswerGuard:
        """What sentences of the sources pass."""
        self._answer = AnswerGuard(redactor=self._redactor(), links=LinkGuard(_linkable(hits)))
        return self._answer

    @property
    def cited(self) -> set[int]:
        return self._citations.cited

    def supported(self, n: int) -> bool | None:
        """Whether a source says all that it was cited for; None where that can't be told, or it was not cited."""
        verdicts = self._verdicts.get(n)
        if not verdicts or (None in verdicts and False not in verdicts):
            return None
        return all(verdicts)

    def _restorer(self) -> "Restorer | None":
        if self._vault is None:
            return None
        from app.rag.guardrails.masking import Restorer  # as in `_vault`

        return Restorer(self._vault, only_own=self._rules.pii is PiiPolicy.HIDE_FROM_ALL)

    def _redactor(self) -> "Redactor | None":
        if self._vault is None or self._rules.pii is not PiiPolicy.HIDE_FROM_ALL:
            return None
        from app.rag.guardrails.masking import Redactor  # as in `_vault`

        return Redactor(self._vault, self._kinds)

    def _judged(
        self, said: str, numbers: Sequence[int], sources: Mapping[int, tuple[str, str]]
    ) -> Sequence[int]:
        """Those of the numbers that may stay."""
        # Late: its words and patterns take 3 MB, and only a model's citations are checked.
        from app.rag import support

        dropped: list[int] = []
        for citation in support.check_last(said, numbers, sources):
            if citation.supported is False and self._rules.unsupported_citations is Unsupported.DROP:
                dropped.append(citation.n)
            else:
                self._verdicts.setdefault(citation.n, []).append(citation.supported)
        self._dropped += len(dropped)
        return [number for number in numbers if number not in dropped]

    # What became of it

    def refusal(self, question: str, because: str) -> str:
        """The text that refuses a question: the bot's own, or one in the bot's language or the question's."""
        self._refused_because = because
        if self._rules.refusal_text:
            return self._rules.refusal_text
        language = self._bot.language
        return refusals.sentence(question) if language == "auto" else refusals.sentence_in(language)

    def declined(self) -> None:
        """Note that the model itself refused, in its own words."""
        self._refused_because = NO_ANSWER

    @property
    def has_refusal_text(self) -> bool:
        return bool(self._rules.refusal_text)

    def record(self) -> dict[str, Any] | None:
        """What the guardrails did, for the stored message; None when they had nothing to do. Counts it too."""
        unsupported = sum(False in verdicts for verdicts in self._verdicts.values())
        answer = self._answer or AnswerGuard()
        counted: dict[str, Mapping[str, int]] = {
            "masked": {kind.value: n for kind, n in self._vault.masked.items()} if self._vault else {},
            "hidden": answer.redacted,
            "removed": answer.removed,
            "sources": Counter(gives_orders=self._orders),
            "citations": Counter(unsupported=unsupported, dropped=self._dropped),
        }
        found: dict[str, Any] = {
            name: {kind: n for kind, n in counts.items() if n} for name, counts in counted.items()
        }
        found = {name: counts for name, counts in found.items() if counts}
        for name, counts in found.items():
            for kind, n in counts.items():
                counters.add("guardrail_events", n, guard=name, kind=kind)
        if self._refused_because is not None:
            found["refused"] = self._refused_because
            counters.add("guardrail_events", guard="refused", kind=self._refused_because)
        return found or None


def _vault(rules: Guardrails, kinds: frozenset[PiiKind]) -> "Vault | None":
    """Where personal data is kept for the turn, if any is to be hidden."""
    if rules.pii is PiiPolicy.OFF:
        return None
    from app.rag.guardrails.masking import Vault  # its patterns take memory that most services do without

    return Vault(kinds)


def _kinds(rules: Guardrails) -> frozenset[PiiKind]:
    if rules.pii_kinds is None:
        return _ALL_KINDS
    return frozenset(kind for kind in PiiKind if kind.value in rules.pii_kinds)


def _linkable(hits: Sequence[Hit]) -> list[str]:
    """The texts whose addresses an answer may link: of passages that give no orders, and where documents came from."""
    orders = instructions.counts(tuple(hit.text for hit in hits))
    passages = [hit for hit, count in zip(hits, orders, strict=True) if not count]
    return [hit.text for hit in passages] + [hit.source for hit in passages if hit.source]
