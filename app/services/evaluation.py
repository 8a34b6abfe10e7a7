"""How good the search is on a question set: ingested by the real pipeline into an organization that is deleted afterwards."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from app.core import measures
from app.core.errors import BlankText
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.core.retrieval import Hit, Trust
from app.db import upkeep
from app.db.repositories.identity import IdentityRepository
from app.db.repositories.organizations import OrganizationRepository
from app.services import ingestion, retrieval
from app.services.question_sets import Asked, Passage, QuestionSet
from app.services.runtime import Runtime

_FIRST: Final = 10
_DEEP: Final = 100
_CONCURRENT_DOCUMENTS: Final = 4
_FALSE_REFUSALS: Final = 0.05
_NAME: Final = "Evaluation (scratch)"


class Leg(StrEnum):
    """What ranks: both legs of the search together, or one of them alone."""

    FUSED = "fused"
    DENSE = "dense"
    LEXICAL = "lexical"


_TRUST: Final = {
    Leg.FUSED: None,
    Leg.DENSE: Trust(weight=1.0, spread=0.0),
    Leg.LEXICAL: Trust(weight=0.0, spread=0.0),
}


@dataclass(slots=True)
class LegResult:
    """One leg over all answerable questions; the lists have one value a question, in the order of the set."""

    ndcg: list[float] = field(default_factory=list)
    recall_10: list[float] = field(default_factory=list)
    recall_100: list[float] = field(default_factory=list)
    mrr: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        return {
            "ndcg@10": statistics.fmean(self.ndcg),
            "recall@10": statistics.fmean(self.recall_10),
            "recall@100": statistics.fmean(self.recall_100),
            "mrr@10": statistics.fmean(self.mrr),
            "latency_p50_ms": statistics.median(self.latency_ms),
            "latency_p95_ms": sorted(self.latency_ms)[int(0.95 * (len(self.latency_ms) - 1))],
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
            "per_question": {leg.value: asdict(result) for leg, result in self.legs.items()}
            | {"relevance": self.answerable, "relevance_of_unanswerable": self.unanswerable},
        }

    def refused_count(self, relevances: Sequence[float]) -> int:
        return sum(value < self.needed for value in relevances)


Progress = Callable[[str, int, int], None]
"""Told what is being done, and how many of how many are."""


async def evaluate(runtime: Runtime, questions: QuestionSet, *, progress: Progress) -> Result:
    """Ingest, ask every question by each leg, delete all of it again; also when cancelled.

    Raises EmbeddingUnavailable and EmbeddingModelMismatch.
    """
    async with _scratch_organization(runtime) as principal:
        started = time.monotonic()
        passage_of, chunks = await _ingest(runtime, principal, questions.passages, progress)
        seconds = time.monotonic() - started
        await upkeep.count_terms(runtime.database)
        legs = {leg: LegResult() for leg in Leg}
        best: list[Hit | None] = []
        asked = (*questions.answerable, *questions.unanswerable)
        for number, question in enumerate(asked):
            progress("questions", number, len(asked))
            if question.relevant:
                for leg, result in legs.items():
                    hits = await _ask(runtime, principal, question, leg, result, passage_of)
                    if leg is Leg.FUSED:
                        best.append(_most_relevant(hits))
            else:
                hits = await retrieval.search(runtime, principal, question.text, limit=_FIRST)
                best.append(_most_relevant(hits))
    relevances = [hit.relevance if hit else 0.0 for hit in best]
    return Result(
        dataset=questions.name,
        passages=len(questions.passages),
        chunks=chunks,
        ingest_seconds=seconds,
        settings=_described(runtime),
        legs=legs,
        answerable=relevances[: len(questions.answerable)],
        unanswerable=relevances[len(questions.answerable) :],
        needed=statistics.median(hit.needed for hit in best if hit) if any(best) else 0.0,
    )


async def _ask(
    runtime: Runtime,
    principal: Principal,
    question: Asked,
    leg: Leg,
    result: LegResult,
    passage_of: dict[str, list[str]],
) -> list[Hit]:
    started = time.perf_counter()
    hits = await retrieval.search(runtime, principal, question.text, limit=_DEEP, trust=_TRUST[leg])
    result.latency_ms.append((time.perf_counter() - started) * 1000)
    if leg is Leg.LEXICAL:
        hits = [hit for hit in hits if hit.lexical > 0]
    ranked = list(dict.fromkeys(passage for hit in hits for passage in passage_of[hit.document_id]))
    result.ndcg.append(measures.ndcg(ranked, question.relevant, at=_FIRST))
    result.recall_10.append(measures.recall(ranked, question.relevant, at=_FIRST))
    result.recall_100.append(measures.recall(ranked, question.relevant, at=_DEEP))
    result.mrr.append(measures.reciprocal_rank(ranked, question.relevant, at=_FIRST))
    return hits


@asynccontextmanager
async def _scratch_organization(runtime: Runtime) -> AsyncIterator[Principal]:
    async with runtime.database.unit_of_work(SYSTEM) as session:
        organization_id = await IdentityRepository(session).add_organization(_NAME)
    principal = Principal(PrincipalKind.OPERATOR, "evaluation", organization_id, Role.ADMIN, ALL_SCOPES)
    try:
        yield principal
    finally:
        async with runtime.database.unit_of_work(SYSTEM) as session:
            await OrganizationRepository(session).delete(organization_id)


async def _ingest(
    runtime: Runtime, principal: Principal, passages: Sequence[Passage], progress: Progress
) -> tuple[dict[str, list[str]], int]:
    """The ids of the passages that each document stands for (equal texts are one document), and the number of chunks."""
    passage_of: dict[str, list[str]] = {}
    chunks: dict[str, int] = {}
    waiting = iter(passages)
    done = 0

    async def one_after_the_other() -> None:
        nonlocal done
        for passage in waiting:
            item = ingestion.TextSource(
                text=passage.text, title=passage.title[:500] or None, source=passage.id[:500]
            )
            try:
                document = (await ingestion.ingest_text(runtime, principal, item)).document
            except BlankText:
                continue
            finally:
                done += 1
                progress("passages", done, len(passages))
            passage_of.setdefault(document.id, []).append(passage.id)
            chunks[document.id] = document.chunk_count

    async with asyncio.TaskGroup() as group:
        for _ in range(_CONCURRENT_DOCUMENTS):
            group.create_task(one_after_the_other())
    return passage_of, sum(chunks.values())


def _most_relevant(hits: Sequence[Hit]) -> Hit | None:
    return max(hits[:_FIRST], key=lambda hit: hit.relevance, default=None)


def _part_below(values: Sequence[float], needed: float) -> float:
    return sum(value < needed for value in values) / len(values) if values else 0.0


def _described(runtime: Runtime) -> dict[str, str]:
    settings = runtime.settings
    return {
        "embedding_model": runtime.embeddings.fingerprint,
        "chunk_size_tokens": str(settings.chunk_size_tokens),
        "chunk_overlap_tokens": str(settings.chunk_overlap_tokens),
        "text_search_language": settings.text_search_language,
        "exact_search_max_values": str(settings.exact_search_max_values),
    }
