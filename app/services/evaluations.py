"""Evaluations on an organization's own question sets: asked for here, run by a worker, kept with their history."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.core import cursor
from app.core.errors import (
    EvaluationNotDone,
    EvaluationNotFound,
    EvaluationSetDiffers,
    EvaluationSetNotFound,
    TooManyEvaluations,
)
from app.core.principal import Principal
from app.db.engine import Transaction
from app.db.models import EvaluationRun, EvaluationSet
from app.db.repositories.evaluations import EvaluationRepository
from app.services import access, bots, evaluation_report
from app.services.evaluation_results import Result
from app.services.question_sets import Asked, QuestionSet
from app.services.runtime import Runtime

_MOST_SETS: Final = 100
_MOST_UNDER_WAY: Final = 10
_MOST_RUNS: Final = 500


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be evaluated: the questions of a stored set, or new ones under a name."""

    set_id: str | None = None
    name: str | None = None
    questions: Sequence[dict[str, Any]] = ()
    bot_id: str | None = None
    with_answers: bool = False
    baseline_id: str | None = None


async def start(runtime: Runtime, principal: Principal, wish: Wish) -> EvaluationRun:
    """Have a worker evaluate; the set is kept under its name.

    Raises AdminsOnly, BotNotFound, EvaluationSetNotFound, EvaluationSetDiffers, EvaluationNotFound for a baseline that is
    none of this set, and TooManyEvaluations.
    """
    access.require_admin(principal)
    bot = await bots.resolve(runtime, principal, wish.bot_id)
    async with runtime.database.unit_of_work(principal) as session:
        repository = EvaluationRepository(session, principal)
        sets, under_way = await repository.counts()
        if under_way >= _MOST_UNDER_WAY:
            raise TooManyEvaluations(details={"under_way": under_way})
        questions = await _set(repository, wish, sets=sets)
        if wish.baseline_id is not None:
            baseline = await repository.find(wish.baseline_id)
            if baseline is None or baseline.set_id != questions.id:
                raise EvaluationNotFound(details={"baseline_id": wish.baseline_id})
        await repository.forget_oldest(keep=_MOST_RUNS - 1)
        return await repository.add(
            {
                "set_id": questions.id,
                "name": questions.name,
                "bot_id": bot.id,
                "with_answers": wish.with_answers,
                "baseline_id": wish.baseline_id,
            }
        )


async def _set(repository: EvaluationRepository, wish: Wish, *, sets: int) -> EvaluationSet:
    if wish.set_id is not None:
        found = await repository.find_set(set_id=wish.set_id)
        if found is None:
            raise EvaluationSetNotFound
        return found
    assert wish.name is not None
    asked = [dict(question) for question in wish.questions]
    known = await repository.find_set(name=wish.name)
    if known is not None:
        if known.questions != asked:
            raise EvaluationSetDiffers
        return known
    if sets >= _MOST_SETS:
        raise TooManyEvaluations(details={"sets": sets})
    return await repository.add_set(wish.name, asked)


async def newest(
    session: Transaction,
    principal: Principal,
    *,
    limit: int,
    after: str | None,
    offset: int,
    set_id: str | None,
) -> tuple[Sequence[EvaluationRun], str | None]:
    """A page of evaluations, newest first, and the cursor of the next one. Raises AdminsOnly and InvalidCursor."""
    access.require_admin(principal)
    found = await EvaluationRepository(session, principal).newest(
        limit=limit + 1, after=cursor.decode(after) if after else None, offset=offset, set_id=set_id
    )
    page = found[:limit]
    more = len(found) > limit
    return page, cursor.encode(page[-1].created_at, page[-1].id) if more else None


async def get(session: Transaction, principal: Principal, run_id: str) -> EvaluationRun:
    """Raises AdminsOnly and EvaluationNotFound."""
    access.require_admin(principal)
    run = await EvaluationRepository(session, principal).find(run_id)
    if run is None:
        raise EvaluationNotFound
    return run


async def report(session: Transaction, principal: Principal, run_id: str) -> str:
    """The evaluation as a page, beside the one that it is compared with. Raises as `get` does, and EvaluationNotDone."""
    run = await get(session, principal, run_id)
    if run.result is None:
        raise EvaluationNotDone(details={"status": run.status})
    results = [(_named(run), Result.from_json(run.result))]
    compared_with = (run.summary or {}).get("comparison") or {}
    if compared_with:
        baseline = await EvaluationRepository(session, principal).find(compared_with["baseline_id"])
        if baseline is not None and baseline.result is not None:
            results.insert(0, (_named(baseline), Result.from_json(baseline.result)))
    return evaluation_report.html(results)


def _named(run: EvaluationRun) -> str:
    return f"{run.created_at:%Y-%m-%d %H:%M}"


async def delete(session: Transaction, principal: Principal, run_id: str) -> None:
    """Also while it is under way. Raises AdminsOnly and EvaluationNotFound."""
    access.require_admin(principal)
    if not await EvaluationRepository(session, principal).delete(run_id):
        raise EvaluationNotFound


async def sets(
    session: Transaction, principal: Principal, *, limit: int, offset: int
) -> tuple[Sequence[EvaluationSet], bool]:
    """A page of the question sets, newest first, and whether there are more. Raises AdminsOnly."""
    access.require_admin(principal)
    found = await EvaluationRepository(session, principal).sets(limit=limit + 1, offset=offset)
    return found[:limit], len(found) > limit


async def delete_set(session: Transaction, principal: Principal, set_id: str) -> None:
    """With all of its evaluations. Raises AdminsOnly and EvaluationSetNotFound."""
    access.require_admin(principal)
    if not await EvaluationRepository(session, principal).delete_set(set_id):
        raise EvaluationSetNotFound


def question_set(name: str, questions: Sequence[dict[str, Any]]) -> QuestionSet:
    """The stored questions as they are asked; what is expected are chunks where any are named, and documents otherwise."""
    asked = [
        Asked(
            str(number),
            question["question"],
            dict.fromkeys(question["chunk_ids"] or question["document_ids"], 1),
            tuple(question["answers"]),
        )
        for number, question in enumerate(questions)
    ]
    return QuestionSet(
        name,
        (),
        tuple(each for each in asked if each.is_answerable),
        tuple(each for each in asked if not each.is_answerable),
    )
