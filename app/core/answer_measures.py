"""Measures of answers: whether they say what is right, and whether what they cite says it."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_NOT_WORDS: Final = re.compile(r"[^\w%€$£¥.,]+")
_EDGES: Final = ".,"
_DIGITS_APART: Final = re.compile(r"(?<=\d)[,\u00a0\u202f](?=\d{3}\b)")


def plain(text: str) -> str:
    """A text as it is compared: case, width, accents' form, punctuation and the separators of thousands folded."""
    folded = _DIGITS_APART.sub("", unicodedata.normalize("NFKC", text).casefold())
    words = (word.strip(_EDGES) for word in _NOT_WORDS.split(folded))
    return " ".join(word for word in words if word)


def contains(text: str, gold: Sequence[str]) -> bool:
    """Whether a text has one of the right answers in it, as whole words where its script has words."""
    said = f" {plain(text)} "
    for answer in map(plain, gold):
        if answer and (f" {answer} " in said or (not answer.isascii() and answer in said)):
            return True
    return False


@dataclass(slots=True)
class AnswerResult:
    """One answer. `cited_right` of `cited` sources say what is right, `given_right` whether any that was given does."""

    answerable: bool
    refused: bool
    contains_gold: bool | None = None
    cited: int = 0
    cited_right: int = 0
    given_right: bool = False
    faithful: float | None = None
    """The part of its statements that its sources bear out, as a model judges it."""
    seconds: float = 0.0


@dataclass(slots=True)
class AnswerSummary:
    """Over all answers; None where there is nothing to measure it on."""

    answers: list[AnswerResult] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        told = [each for each in self.answers if not each.refused]
        right = [each for each in told if each.answerable]
        graded = [each.contains_gold for each in self.answers if each.contains_gold is not None]
        cited = sum(each.cited for each in right)
        recallable = [each for each in right if each.given_right]
        refused = [each for each in self.answers if each.refused]
        unanswerable = [each for each in self.answers if not each.answerable]
        faithful = [each.faithful for each in told if each.faithful is not None]
        return {
            "answers": len(self.answers),
            "contains_gold": _part(sum(graded), len(graded)),
            "citation_precision": _part(sum(each.cited_right for each in right), cited),
            "citation_recall": _part(sum(each.cited_right > 0 for each in recallable), len(recallable)),
            "uncited": _part(sum(each.cited == 0 for each in told), len(told)),
            "refusal_precision": _part(sum(not each.answerable for each in refused), len(refused)),
            "refusal_recall": _part(sum(each.refused for each in unanswerable), len(unanswerable)),
            "false_refusals": _part(
                sum(each.answerable for each in refused), sum(each.answerable for each in self.answers)
            ),
            "faithfulness": sum(faithful) / len(faithful) if faithful else None,
            "seconds": sum(each.seconds for each in self.answers) / len(self.answers)
            if self.answers
            else None,
        }


def _part(count: int, of: int) -> float | None:
    return count / of if of else None
