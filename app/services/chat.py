"""A turn of a conversation: question in, events out, both messages stored whatever happens in between.

The database is used in three short transactions (open the turn, search, finish it); none is open while a provider is
asked. Whoever stops consuming the events stops the provider: the partial answer is stored as interrupted.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import anyio
import structlog

from app.core import clock, ids
from app.core.bots import Bot
from app.core.errors import AppError, SessionBusy, SessionNotFound
from app.core.principal import Principal
from app.core.text import clean
from app.db.engine import Transaction
from app.db.models import Message, MessageStatus
from app.db.repositories.conversations import ConversationRepository
from app.db.repositories.turns import NewTurn, StoredTurn, TurnRepository
from app.rag import conversation
from app.rag.llms import Turn
from app.services import answering, bots, usage
from app.services.answering import Draft
from app.services.answers import Answer, AnswerDone, ChatEvent, Question, Source, TurnStarted
from app.services.runtime import Runtime

log = structlog.get_logger(__name__)

_TITLE_CHARACTERS: Final = 80


async def converse(
    runtime: Runtime, principal: Principal, question: Question
) -> AsyncGenerator[ChatEvent, None]:
    """The events of one turn: TurnStarted, SourcesFound, AnswerDelta…, AnswerDone.

    Raises SessionNotFound for somebody else's session and SessionBusy while another turn of it runs, before the first
    event; the errors of `retrieval.search` and of `ChatModel.generate` after it. Then, and when the consumer goes
    away, what there is of the answer is stored with status failed or interrupted.
    """
    runtime.require_matching_index()
    question = _cleaned(question)
    bot = await bots.resolve(runtime, principal, question.bot_id)
    draft, history = await _open(runtime, principal, bot, question)
    status = MessageStatus.INTERRUPTED
    try:
        yield TurnStarted(draft.session_id, draft.message_id)
        events = answering.answer(runtime, principal, bot, question, history, draft)
        async with aclosing(events):
            async for event in events:
                yield event
        status = MessageStatus.COMPLETE
    except AppError as error:
        status = MessageStatus.INTERRUPTED if draft.pieces else MessageStatus.FAILED
        draft.finish_reason = error.code
        raise
    finally:
        if status is not MessageStatus.COMPLETE:
            if draft.finish_reason == "stop":
                draft.finish_reason = "interrupted"
            await _finish_despite_cancellation(runtime, principal, draft, status)
    await _finish(runtime, principal, draft, status)
    yield AnswerDone(draft.answer())


async def answer(runtime: Runtime, principal: Principal, question: Question) -> Answer:
    """A turn without its events. Raises what `converse` raises."""
    async with aclosing(converse(runtime, principal, question)) as events:
        async for event in events:
            if isinstance(event, AnswerDone):
                return event.answer
    raise AssertionError("a turn ends with AnswerDone or raises")


async def messages(
    session: Transaction, principal: Principal, session_id: str, *, limit: int, offset: int
) -> tuple[Sequence[Message], bool]:
    """A page of a session's messages in their order, and whether there are more. Raises SessionNotFound."""
    conversations = ConversationRepository(session, principal)
    if await conversations.find_session(session_id) is None:
        raise SessionNotFound
    found = await conversations.messages(session_id, limit=limit + 1, offset=offset)
    return found[:limit], len(found) > limit


def _cleaned(question: Question) -> Question:
    return replace(
        question,
        message=clean(question.message),
        history=question.history and tuple(Turn(turn.role, clean(turn.content)) for turn in question.history),
    )


async def _open(
    runtime: Runtime, principal: Principal, bot: Bot, question: Question
) -> tuple[Draft, list[Turn]]:
    """Store the question and the row of the answer to come; return the draft and the history."""
    settings = runtime.settings
    session_id = question.session_id or ids.new(ids.Prefix.SESSION)
    message_id = ids.new(ids.Prefix.MESSAGE)
    draft = Draft(
        session_id=session_id,
        message_id=message_id,
        model=bot.model.model,
        started=time.monotonic(),
        ledger=usage.ledger_of(
            runtime, principal, bot_id=bot.id, session_id=session_id, message_id=message_id
        ),
    )
    turn = NewTurn(
        session_id=draft.session_id,
        title=" ".join(question.message.split())[:_TITLE_CHARACTERS],
        question_id=ids.new(ids.Prefix.MESSAGE),
        question=question.message,
        answer_id=draft.message_id,
        model=draft.model,
    )
    try:
        stored = await _store_turn(runtime, principal, turn)
    except SessionBusy:
        async with runtime.database.direct(principal) as session:
            dead = clock.now() - timedelta(seconds=settings.longest_turn_seconds)
            await TurnRepository(session, principal).interrupt_dead_answer(turn.session_id, before=dead)
        stored = await _store_turn(runtime, principal, turn)
    history = [Turn(message.role, message.content) for message in stored]
    if question.history is not None:
        history = list(question.history)
    history = history[-settings.max_history_messages :] if settings.max_history_messages else []
    return draft, conversation.within_budget(history, settings.max_history_tokens)


async def _store_turn(runtime: Runtime, principal: Principal, turn: NewTurn) -> list[StoredTurn]:
    # On disk at the latest with the answer, and before that nobody is told that it is stored.
    async with runtime.database.direct(principal, flushed_later=True) as session:
        stored = await TurnRepository(session, principal).open_turn(
            turn, history=runtime.settings.max_history_messages
        )
        if stored is None:
            raise SessionNotFound
        return stored


def _stored(source: Source) -> dict[str, Any]:
    # `asdict` copies every value deeply, at ten times the cost.
    return {name: getattr(source, name) for name in Source.__slots__}


async def _finish(runtime: Runtime, principal: Principal, draft: Draft, status: MessageStatus) -> None:
    spent, ledger = draft.usage, draft.ledger
    values: dict[str, Any] = {
        "content": draft.text,
        "status": status,
        "sources": [_stored(source) for source in draft.sources],
        "usage": {
            "prompt_tokens": spent.prompt_tokens,
            "completion_tokens": spent.completion_tokens,
            "cost_usd": None if spent.cost_usd is None else str(spent.cost_usd),
            "estimated": spent.estimated,
        },
        "model": draft.model,
        "refused": draft.refused,
        "finish_reason": draft.finish_reason,
        "latency_ms": round((time.monotonic() - draft.started) * 1000),
    }
    async with runtime.database.direct(principal) as session:
        await ledger.settle(session)
        await TurnRepository(session, principal).finish_answer(
            draft.message_id, values, payer=ledger.payer, calls=ledger.calls
        )


async def _finish_despite_cancellation(
    runtime: Runtime, principal: Principal, draft: Draft, status: MessageStatus
) -> None:
    """The caller may be going away (its task cancelled): what there is of the answer is stored all the same."""
    try:
        with anyio.CancelScope(shield=True):
            await _finish(runtime, principal, draft, status)
    except AppError as error:  # the reaper will find the row; the first error is the one to report
        log.warning("partial_answer_not_stored", message_id=draft.message_id, reason=error.code)
