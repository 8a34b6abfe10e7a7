"""What a worker does with evaluations: one at a time, kept by a heartbeat, taken over by another when it dies."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import structlog

from app.core import clock, measures
from app.core.errors import AppError, Category
from app.core.ids import Prefix
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.db.models import EvaluationRun, RunStatus
from app.db.repositories import evaluations as queue
from app.db.repositories.evaluations import EvaluationRepository, RunClaim
from app.services import bots, evaluation, evaluations
from app.services.evaluation_results import Leg, Result
from app.services.question_sets import Asked, Placed
from app.services.runtime import Runtime

log = structlog.get_logger(__name__)

_HEARTBEAT_SECONDS: Final = 2.0
_PAUSE: Final = timedelta(seconds=30)
_MOST_ATTEMPTS: Final = 3
_SIGNIFICANT: Final = 0.05
_PASSING: Final = (Category.UNAVAILABLE, Category.GATEWAY_TIMEOUT)


class _Lost(Exception):
    """The evaluation was deleted, or is another worker's now."""


async def run_next(runtime: Runtime, *, claimed_by: str) -> bool:
    """Run the evaluation that has waited longest; False where none does. Cancelled, it is given back.

    Raises AppError while the database is away.
    """
    lease = timedelta(seconds=runtime.settings.job_lease_seconds)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        claim = await queue.claim(session, claimed_by=claimed_by, lease=lease)
    if claim is None:
        return False
    try:
        await _run(runtime, claim, lease)
    except asyncio.CancelledError:
        await asyncio.shield(give_back(runtime, claim))
        raise
    except _Lost:
        log.info("evaluation_lost", run_id=claim.run_id)
    return True


async def give_back(runtime: Runtime, claim: RunClaim) -> None:
    """Let another worker have the evaluation, as if this one had not started."""
    with contextlib.suppress(AppError, _Lost):  # without a database the lease runs out
        await _write(runtime, claim, _given_back(attempts=claim.attempts - 1))


async def _run(runtime: Runtime, claim: RunClaim, lease: timedelta) -> None:
    if claim.attempts > _MOST_ATTEMPTS:
        await _write(
            runtime,
            claim,
            _failed("crashed_repeatedly", "Whoever ran this evaluation died of it again and again."),
        )
        return
    progress = _Progress()
    work = asyncio.create_task(_measured(runtime, claim, progress), name=f"evaluation {claim.run_id}")
    heartbeat = asyncio.create_task(_keep(runtime, claim, lease, progress))
    try:
        await asyncio.wait([work, heartbeat], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise _Lost
        values = work.result()
    except AppError as error:
        again = error.category in _PASSING and claim.attempts < _MOST_ATTEMPTS
        values = (
            _given_back(attempts=claim.attempts, pause=_PAUSE)
            if again
            else _failed(error.code, error.message)
        )
    except (_Lost, asyncio.CancelledError):
        raise
    except Exception as error:  # the top of a worker: one evaluation may fail, the others go on
        log.error("evaluation_failed", run_id=claim.run_id, exc_info=error)
        values = _failed("internal_error", "Something went wrong on the server; it has been logged.")
    finally:
        for task in (work, heartbeat):
            task.cancel()
        await asyncio.gather(work, heartbeat, return_exceptions=True)
    await _write(runtime, claim, values)


class _Progress:
    share = 0.0

    def show(self, _: str, done: int, of: int) -> None:
        self.share = done / max(of, 1)


async def _keep(runtime: Runtime, claim: RunClaim, lease: timedelta, progress: _Progress) -> None:
    """Extend the claim and show the progress, until the claim is lost."""
    while True:
        await asyncio.sleep(min(_HEARTBEAT_SECONDS, lease.total_seconds() / 3))
        try:
            await _write(runtime, claim, {"available_at": clock.now() + lease, "progress": progress.share})
        except AppError as error:  # the database is away: its fence decides in the end
            log.warning("heartbeat_missed", run_id=claim.run_id, reason=error.code)
        except _Lost:
            return


async def _measured(runtime: Runtime, claim: RunClaim, progress: _Progress) -> dict[str, Any]:
    """Ask all questions; what is to be written of it. Raises _Lost and AppError."""
    principal = _principal(claim)
    async with runtime.database.unit_of_work(principal) as session:
        repository = EvaluationRepository(session, principal)
        run = await repository.find(claim.run_id)
        questions = None if run is None else await repository.find_set(set_id=run.set_id)
        if run is None or questions is None:
            raise _Lost
        asked = evaluations.question_set(questions.name, questions.questions)
        bot_id, with_answers = run.bot_id, run.with_answers
    bot = await bots.resolve(runtime, principal, bot_id)
    result = await evaluation.measure(
        runtime,
        principal,
        asked,
        keys_of=_expected,
        bot=bot,
        with_answers=with_answers,
        progress=progress.show,
    )
    found = result.as_json()
    async with runtime.database.unit_of_work(principal) as session:
        repository = EvaluationRepository(session, principal)
        baseline = await _baseline(repository, run)
    summary = {name: value for name, value in found.items() if name != "per_question"}
    summary["comparison"] = None if baseline is None else compared(baseline, result)
    return {
        "status": RunStatus.COMPLETED,
        "progress": 1.0,
        "error": None,
        "summary": summary,
        "result": found,
        "ended_at": clock.now(),
    }


async def _baseline(repository: EvaluationRepository, run: EvaluationRun) -> EvaluationRun | None:
    """The evaluation to compare with: the one that was named, or the last of this set."""
    if run.baseline_id is not None:
        named = await repository.find(run.baseline_id)
        return named if named is not None and named.result is not None else None
    return await repository.last_completed(run.set_id, but=run.id)


def compared(baseline: EvaluationRun, result: Result) -> dict[str, Any]:
    """The differences to another evaluation of the same questions, and whether any of them is a loss beyond chance."""
    before = Result.from_json(baseline.result or {})
    differences = {leg.value: _difference(before.legs[leg].ndcg, result.legs[leg].ndcg) for leg in Leg}
    if before.answers and result.answers:
        for name, of in (("contains_gold", "contains_gold"), ("false_refusals", "refused")):
            pairs = [
                (getattr(old, of), getattr(new, of))
                for old, new in zip(before.answers.answers, result.answers.answers, strict=True)
                if name == "contains_gold" or old.answerable
            ]
            graded = [(float(old), float(new)) for old, new in pairs if old is not None and new is not None]
            if graded:
                differences[name] = _difference([old for old, _ in graded], [new for _, new in graded])
    worse = [
        name
        for name, each in differences.items()
        if each["p"] < _SIGNIFICANT
        and (each["difference"] > 0 if name == "false_refusals" else each["difference"] < 0)
    ]
    judged = [name for name in worse if name not in (Leg.DENSE, Leg.LEXICAL)]
    return {
        "baseline_id": baseline.id,
        "differences": differences,
        "regression": bool(judged),
        "worse": worse,
    }


def _difference(before: Sequence[float], after: Sequence[float]) -> dict[str, float]:
    if not before:
        return {"difference": 0.0, "p": 1.0}
    return {
        "difference": sum(after) / len(after) - sum(before) / len(before),
        "p": measures.p_value(before, after),
    }


def _expected(question: Asked, found: Sequence[Placed]) -> list[str]:
    """Chunks where the question expects chunks, documents where it expects documents."""
    by_chunk = any(key.startswith(f"{Prefix.CHUNK}_") for key in question.relevant)
    return list(dict.fromkeys(each.chunk_id if by_chunk else each.document_id for each in found))


def _principal(claim: RunClaim) -> Principal:
    """Who asks: one who sees the whole organization, and nothing behind its wall."""
    return Principal(PrincipalKind.OPERATOR, "evaluation", claim.organization_id, Role.ADMIN, ALL_SCOPES)


def _failed(code: str, message: str) -> dict[str, Any]:
    return {
        "status": RunStatus.FAILED,
        "error": {"code": code, "message": message},
        "ended_at": clock.now(),
    }


def _given_back(*, attempts: int, pause: timedelta = timedelta()) -> dict[str, Any]:
    return {
        "status": RunStatus.QUEUED,
        "claimed_by": None,
        "available_at": clock.now() + pause,
        "attempts": attempts,
    }


async def _write(runtime: Runtime, claim: RunClaim, values: dict[str, Any]) -> None:
    """Raises _Lost, and AppError while the database is away."""
    principal = _principal(claim)
    async with runtime.database.unit_of_work(principal) as session:
        if not await EvaluationRepository(session, principal).update_claimed(claim, values):
            raise _Lost
