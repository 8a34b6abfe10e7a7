"""What an evaluation found: the measures of each leg, question by question, of refusals and of answers."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from app.core import measures
from app.core.answer_measures import AnswerResult, AnswerSummary

_FALSE_REFUSALS: Final = 0.05
_MEASURED: Final = ("ndcg@10", "recall@10", "recall@100", "mrr@10", "latency_p50_ms", "latency_p95_ms")


class Leg(StrEnum):
    """What ranks: both legs of the search together, or one of them alone."""

    FUSED = "fused"
    DENSE = "dense"
    LEXICAL = "lexical"


@dataclass(slots=True)
class LegResult:
    """One leg over all answerable questions; the lists have one value a question, in the order of the set."""

    ndcg: list[float] = field(default_factory=list)
    recall_10: list[float] = field(default_factory=list)
    recall_100: list[float] = field(default_factory=list)
    mrr: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        if not self.ndcg:
            return dict.fromkeys(_MEASURED, 0.0)
        return {
            "ndcg@10": statistics.fmean(self.ndcg),
            "recall@10": statistics.fmean(self.recall_10),
            "recall@100": statistics.fmean(self.recall_100),
            "mrr@10": statistics.fmean(self.mrr),
            "latency_p50_ms": statistics.median(self.latency_ms),
            "latency_p95_ms": sorted(self.latency_ms)[math.ceil(0.95 * (len(self.latency_ms) - 1))],
        }


@dataclass(slots=True)
class Result:
    """A configuration on a question set. Relevances are those of each question's best passage."""

    dataset: str
    passages: int
    chunks: int
    ingest_seconds: float
    settings: dict[str, str]
    legs: dict[Leg, LegResult]
    answerable: list[float]
    unanswerable: list[float]
    needed: float
    """The relevance below which a question is refused: the setting's, or the median of what the questions' languages need."""
    answers: AnswerSummary | None = None

    @property
    def false_refusals(self) -> float:
        return _part_below(self.answerable, self.needed)

    @property
    def refused(self) -> float | None:
        """The part of the unanswerable questions that is refused; None without any."""
        return _part_below(self.unanswerable, self.needed) if self.unanswerable else None

    def calibrated(self, *, false_refusals: float = _FALSE_REFUSALS) -> tuple[float, float | None]:
        """The highest MIN_RELEVANCE that refuses at most so many of the answerable, and how many of the others it refuses."""
        needed = measures.threshold(self.answerable, false_refusals=false_refusals)
        return needed, _part_below(self.unanswerable, needed) if self.unanswerable else None

    def as_json(self) -> dict[str, Any]:
        needed, refused = self.calibrated()
        precision = None
        if self.unanswerable:
            right = self.refused_count(self.unanswerable)
            wrong = self.refused_count(self.answerable)
            precision = right / (right + wrong) if right + wrong else None
        return {
            "dataset": self.dataset,
            "passages": self.passages,
            "chunks": self.chunks,
            "questions": len(self.answerable),
            "ingest_seconds": self.ingest_seconds,
            "settings": self.settings,
            "legs": {leg.value: result.summary() for leg, result in self.legs.items()},
            "refusal": {
                "min_relevance": self.needed,
                "false_refusals": self.false_refusals,
                "recall": self.refused,
                "precision": precision,
                "unanswerable": len(self.unanswerable),
            },
            "calibrated": {
                "min_relevance": needed,
                "refused": refused,
                "false_refusals_at_most": _FALSE_REFUSALS,
            },
            "answers": self.answers.as_json() if self.answers else None,
            "per_question": {leg.value: asdict(result) for leg, result in self.legs.items()}
            | {"relevance": self.answerable, "relevance_of_unanswerable": self.unanswerable}
            | {"answers": [asdict(each) for each in self.answers.answers] if self.answers else None},
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Result":
        """What `as_json` made, as it was."""
        single = stored["per_question"]
        answers = single.get("answers")
        return cls(
            dataset=stored["dataset"],
            passages=stored["passages"],
            chunks=stored["chunks"],
            ingest_seconds=stored["ingest_seconds"],
            settings=stored["settings"],
            legs={leg: LegResult(**single[leg.value]) for leg in Leg},
            answerable=single["relevance"],
            unanswerable=single["relevance_of_unanswerable"],
            needed=stored["refusal"]["min_relevance"],
            answers=None if answers is None else AnswerSummary([AnswerResult(**each) for each in answers]),
        )

    def refused_count(self, relevances: Sequence[float]) -> int:
        return sum(value < self.needed for value in relevances)


def _part_below(values: Sequence[float], needed: float) -> float:
    return sum(value < needed for value in values) / len(values) if values else 0.0
