"""The course of a turn: both messages stored whatever happens in between, and each step told to whoever follows.

The database is used in three short transactions (open the turn, search, finish it); none is open while a provider is
asked. A turn that is told to end keeps what there is of its answer.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import structlog

from app.core.errors import AppError
from app.core.principal import Principal
from app.core.usage import in_dollars
from app.db.models import MessageStatus
from app.db.repositories.turns import TurnRepository
from app.services import answering, recaps, session_files, turn_opening
from app.services.answers import (
    AnswerDone,
    ChatEvent,
    DocumentProgress,
    Question,
    Source,
    TurnFailed,
    TurnStarted,
)
from app.services.drafts import Draft
from app.services.live import LiveTurn
from app.services.recaps import Ended
from app.services.runtime import Runtime

log = structlog.get_logger(__name__)

STOPPED: Final = "stopped"


async def run(runtime: Runtime, principal: Principal, question: Question, turn: LiveTurn) -> None:
    """One turn from its question to its end. Raises nothing: `turn` has the answer, or what failed."""
    try:
        opened = await turn_opening.open_turn(runtime, principal, question, turn)
    except AppError as error:
        turn.fail(error)
        return
    except Exception as error:  # the top of a task: whoever waits for it must be told, whatever it is
        log.error("turn_failed", exc_info=error)
        turn.fail(error)
        return
    principal, draft = principal.proven(), opened.draft
    status: MessageStatus = MessageStatus.COMPLETE
    failure: Exception | None = None
    try:
        turn.add(TurnStarted(draft.session_id, draft.message_id))
        async with session_files.told(runtime, principal, opened.state.files_id, turn.add) as pending:
            draft.pending = pending
            async with aclosing(
                answering.answer(runtime, principal, opened.bot, opened.question, opened.history, draft)
            ) as events:
                await _hand_on(events, turn)
    except asyncio.CancelledError:
        status, failure = _told_to_end(turn, draft)
    except AppError as error:
        status = MessageStatus.INTERRUPTED if draft.pieces else MessageStatus.FAILED
        draft.finish_reason, failure = error.code, error
    except Exception as error:  # the answer's row must not stay open
        log.error("turn_failed", message_id=draft.message_id, exc_info=error)
        status, failure = MessageStatus.FAILED, error
        draft.finish_reason = "internal_error"
    finally:
        draft.end_search()
    turn.is_ending = True
    await _end(runtime, principal, turn, draft, status, failure)
    if turn.done is not None and opened.question.history is None:
        ended = Ended(draft.session_id, opened.state.title_source, opened.earlier, turn.asked, draft.text)
        recaps.follow(runtime, principal, opened.bot, ended)


async def _hand_on(events: AsyncGenerator[ChatEvent, None], turn: LiveTurn) -> None:
    if turn.is_ending:  # it was told to while it was being opened
        raise asyncio.CancelledError
    async for event in events:
        turn.add(event)


def _told_to_end(turn: LiveTurn, draft: Draft) -> tuple[MessageStatus, AppError | None]:
    if (task := asyncio.current_task()) is not None:
        task.uncancel()
    if turn.cause is None:
        draft.finish_reason = STOPPED
        return MessageStatus.STOPPED, None
    draft.finish_reason = turn.cause.code
    return MessageStatus.INTERRUPTED, turn.cause


async def _end(
    runtime: Runtime,
    principal: Principal,
    turn: LiveTurn,
    draft: Draft,
    status: MessageStatus,
    failure: Exception | None,
) -> None:
    """Store what became of the answer, then tell it. What was not stored is not told as an answer."""
    try:
        await _finish(runtime, principal, draft, status, failure)
    except Exception as error:  # the first failure is the one to report; the reaper will find the row
        log.warning("answer_not_stored", message_id=draft.message_id, reason=type(error).__name__)
        failure = failure or error
    if failure is None:
        turn.add(AnswerDone(draft.answer()))
    else:
        turn.fail(failure)


def stored(value: Source | DocumentProgress) -> dict[str, Any]:
    """As the row of the answer has it."""
    # `asdict` copies every value deeply, at ten times the cost.
    return {name: getattr(value, name) for name in value.__slots__}


async def _finish(
    runtime: Runtime, principal: Principal, draft: Draft, status: MessageStatus, failure: Exception | None
) -> None:
    spent, ledger = draft.usage, draft.ledger
    ledger.session_id = draft.session_id
    told = None if failure is None else TurnFailed.of(failure)
    values: dict[str, Any] = {
        "content": draft.text,
        "status": status,
        "sources": [stored(source) for source in draft.sources],
        "usage": {
            "prompt_tokens": spent.prompt_tokens,
            "completion_tokens": spent.completion_tokens,
            "cost_usd": None if spent.cost_usd is None else in_dollars(spent.cost_usd),
            "estimated": spent.estimated,
        },
        "model": draft.model,
        "refused": draft.refused,
        "finish_reason": draft.finish_reason,
        "latency_ms": round((time.monotonic() - draft.started) * 1000),
        "error": told and {"code": told.code, "message": told.message, "details": told.details},
        "fallback": draft.fallback,
        "degraded": draft.degraded,
        "pending_documents": [stored(document) for document in draft.pending],
        "guardrails": draft.guardrails,
    }
    async with runtime.database.single(principal) as session:
        if not await ledger.is_to_settle(session):
            await TurnRepository(session, principal).finish_answer(
                draft.message_id, values, payer=ledger.payer, calls=ledger.calls
            )
            return
    async with runtime.database.direct(principal) as session:
        await ledger.settle(session)
        await TurnRepository(session, principal).finish_answer(
            draft.message_id, values, payer=ledger.payer, calls=ledger.calls
        )
