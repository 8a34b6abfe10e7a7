"""How good search and answers are on a question set: on an organization's own documents, or on passages that come with the
set, ingested by the real pipeline into an organization that is deleted afterwards.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from app.core import answer_measures, measures
from app.core.answer_measures import AnswerResult, AnswerSummary
from app.core.bots import Bot
from app.core.errors import BlankText
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.core.retrieval import Hit, Trust
from app.db import upkeep
from app.db.repositories.identity import IdentityRepository
from app.db.repositories.organizations import OrganizationRepository
from app.services import answer_evaluation, ingestion, retrieval
from app.services.evaluation_results import Leg, LegResult, Result
from app.services.question_sets import Asked, KeysOf, Passage, Placed, QuestionSet
from app.services.runtime import Runtime

_FIRST: Final = 10
_DEEP: Final = 100
_CONCURRENT_DOCUMENTS: Final = 4
_NAME: Final = "Evaluation (scratch)"
_ANSWER: Final = "the answer"


_TRUST: Final = {
    Leg.FUSED: None,
    Leg.DENSE: Trust(weight=1.0, spread=0.0),
    Leg.LEXICAL: Trust(weight=0.0, spread=0.0),
}


Progress = Callable[[str, int, int], None]
"""Told what is being done, and how many of how many are."""


async def evaluate(
    runtime: Runtime, questions: QuestionSet, *, progress: Progress, with_answers: bool = False
) -> Result:
    """Ingest, ask every question by each leg, delete all of it again; also when cancelled.

    `with_answers` has each question answered too, by the bot of the environment. Raises EmbeddingUnavailable and
    EmbeddingModelMismatch.
    """
    async with _scratch_organization(runtime) as principal:
        started = time.monotonic()
        passage_of, chunks = await _ingest(runtime, principal, questions.passages, progress)
        seconds = time.monotonic() - started
        await upkeep.count_terms(runtime.database)

        def passages(_: Asked, found: Sequence[Placed]) -> list[str]:
            return list(dict.fromkeys(passage for each in found for passage in passage_of[each.document_id]))

        result = await measure(
            runtime,
            principal,
            questions,
            keys_of=passages,
            bot=runtime.default_bot,
            with_answers=with_answers,
            progress=progress,
        )
    result.passages, result.chunks, result.ingest_seconds = len(questions.passages), chunks, seconds
    return result


async def measure(
    runtime: Runtime,
    principal: Principal,
    questions: QuestionSet,
    *,
    keys_of: KeysOf,
    bot: Bot,
    with_answers: bool,
    progress: Progress,
) -> Result:
    """Ask every question of what the principal and the bot reach. Raises what a search and an answer raise."""
    legs = {leg: LegResult() for leg in Leg}
    best: list[Hit | None] = []
    answers: list[AnswerResult] = []
    asked = (*questions.answerable, *questions.unanswerable)
    for number, question in enumerate(asked):
        progress("questions", number, len(asked))
        if question.is_answerable:
            for leg, result in legs.items():
                hits = await _ask(runtime, principal, bot, question, leg, result, keys_of)
                if leg is Leg.FUSED:
                    best.append(_most_relevant(hits))
        else:
            hits = await retrieval.search(
                runtime, principal, question.text, limit=_FIRST, granted=bot.collection_ids
            )
            best.append(_most_relevant(hits))
        if with_answers:
            answers.append(
                await answer_evaluation.answer(
                    runtime, principal, bot, question, keys_of=keys_of, judged=True
                )
            )
    relevances = [hit.relevance if hit else 0.0 for hit in best]
    return Result(
        dataset=questions.name,
        passages=0,
        chunks=0,
        ingest_seconds=0.0,
        settings=_described(runtime, bot),
        legs=legs,
        answerable=relevances[: len(questions.answerable)],
        unanswerable=relevances[len(questions.answerable) :],
        needed=statistics.median(hit.needed for hit in best if hit) if any(best) else 0.0,
        answers=AnswerSummary(answers) if with_answers else None,
    )


async def _ask(
    runtime: Runtime,
    principal: Principal,
    bot: Bot,
    question: Asked,
    leg: Leg,
    result: LegResult,
    keys_of: KeysOf,
) -> list[Hit]:
    started = time.perf_counter()
    hits = await retrieval.search(
        runtime, principal, question.text, limit=_DEEP, granted=bot.collection_ids, trust=_TRUST[leg]
    )
    result.latency_ms.append((time.perf_counter() - started) * 1000)
    counted = [hit for hit in hits if hit.lexical > 0] if leg is Leg.LEXICAL else hits
    relevant = question.relevant or {_ANSWER: 1}
    ranked = keys_of(question, counted) if question.relevant else _by_answer(question, counted)
    result.ndcg.append(measures.ndcg(ranked, relevant, at=_FIRST))
    result.recall_10.append(measures.recall(ranked, relevant, at=_FIRST))
    result.recall_100.append(measures.recall(ranked, relevant, at=_DEEP))
    result.mrr.append(measures.reciprocal_rank(ranked, relevant, at=_FIRST))
    return counted


def _by_answer(question: Asked, hits: Sequence[Hit]) -> list[str]:
    """The chunks, of which the first that has a right answer in it is the one to find."""
    ranked = [hit.chunk_id for hit in hits]
    for place, hit in enumerate(hits):
        if answer_measures.contains(hit.text, question.answers):
            ranked[place] = _ANSWER
            break
    return ranked


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


def _described(runtime: Runtime, bot: Bot) -> dict[str, str]:
    settings = runtime.settings
    return {
        "bot": bot.name,
        "model": bot.model.model,
        "embedding_model": runtime.embeddings.fingerprint,
        "chunk_size_tokens": str(settings.chunk_size_tokens),
        "chunk_overlap_tokens": str(settings.chunk_overlap_tokens),
        "text_search_language": settings.text_search_language,
        "exact_search_max_values": str(settings.exact_search_max_values),
    }
