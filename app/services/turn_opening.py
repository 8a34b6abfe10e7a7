"""How a turn begins: the question and the row of its answer stored, the search under way, and who is to answer.

The search of a plain question is begun first: its provider is asked while the turn is being stored.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from app.core import clock, ids
from app.core.bots import Bot
from app.core.errors import AppError, MessageNotFound, NotAnAnswer, NotAQuestion, SessionBusy, SessionNotFound
from app.core.principal import Principal
from app.db.engine import AnyTransaction
from app.db.repositories.branches import BranchRepository
from app.db.repositories.turns import NewTurn, OpenedTurn, SessionState, TurnRepository
from app.rag.llms import Turn
from app.services import answering, auth, bots, recaps, usage
from app.services.answers import Question
from app.services.drafts import Draft
from app.services.live import LiveTurn
from app.services.runtime import Runtime

_TITLE_CHARACTERS: Final = 80
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Opened:
    """A turn that is stored: who answers what, after which messages, in which session."""

    draft: Draft
    bot: Bot
    question: Question
    history: list[Turn]
    earlier: Sequence[Turn]
    state: SessionState


async def open_turn(runtime: Runtime, principal: Principal, question: Question, turn: LiveTurn) -> Opened:
    """Store the question and the row of the answer to come.

    Raises Unauthenticated, BotNotFound, SessionNotFound, SessionBusy, MessageNotFound, NotAnAnswer or NotAQuestion; then nothing
    is stored. An unproven principal is proved, in the same statement where it is a plain question.
    """
    if _is_asked_for_more(principal, question):
        principal = await auth.prove(runtime, principal)
    try:
        return await _opened(runtime, principal, question, turn)
    except AppError:
        await auth.prove(runtime, principal)  # to who must not come in any more, nothing else is told
        raise


def _is_asked_for_more(principal: Principal, question: Question) -> bool:
    """Whether the database is asked for something else first."""
    return bool(_names_bot(principal, question) or question.regenerates or question.edits)


async def _opened(runtime: Runtime, principal: Principal, question: Question, turn: LiveTurn) -> Opened:
    runtime.require_matching_index()
    bot = await bots.resolve(runtime, principal, question.bot_id)
    draft = Draft(
        session_id=turn.session_id,
        message_id=turn.message_id,
        model=bot.model.model,
        started=time.monotonic(),
        ledger=usage.ledger_of(runtime, principal.proven(), message_id=turn.message_id),
    )
    # What it finds goes nowhere unless the turn is opened.
    answering.begin_search(runtime, principal.proven(), bot, question, draft)
    try:
        await asyncio.sleep(0)  # the search asks its provider before the turn is put together, not after
        asked, stored, bot = await _store_when_quiet(runtime, principal, question, turn, draft, bot)
    except BaseException:
        draft.end_search()
        raise
    draft.session_id = turn.session_id
    turn.asked = asked
    earlier = [Turn(message.role, message.content) for message in stored.history]
    said, summary = earlier, stored.state.summary if bot.summarise_history else None
    if question.history is not None:
        said, summary = list(question.history), None
    where = replace(question.where, session_collection_id=stored.state.files_id)
    return Opened(
        draft,
        bot,
        replace(question, message=asked, where=where),
        recaps.given(runtime.settings, said, summary),
        earlier,
        stored.state,
    )


def _stored_id(bot: Bot) -> str | None:
    """As the session keeps it: nothing for the environment's bot."""
    return None if bot.version_id is None else bot.id


def _names_bot(principal: Principal, question: Question) -> bool:
    return question.bot_id is not None or principal.bot_id is not None


async def _bot_of_session(
    runtime: Runtime,
    session: AnyTransaction,
    principal: Principal,
    question: Question,
    draft: Draft,
    bot: Bot,
    state: SessionState,
) -> Bot:
    """Who answers: the session's own bot, where the question names none. Raises BotNotFound, and then nothing is stored."""
    if state.bot_id in (None, _stored_id(bot)) or _names_bot(principal, question):
        return bot
    own = await bots.find(runtime, session, principal, state.bot_id)
    draft.model = own.model.model
    await TurnRepository(session, principal).hand_to_bot(
        draft.message_id, model=draft.model, bot_version_id=own.version_id
    )
    return own


async def _store_when_quiet(
    runtime: Runtime, principal: Principal, question: Question, turn: LiveTurn, draft: Draft, bot: Bot
) -> tuple[str, OpenedTurn, Bot]:
    """The question as it is stored, with what was said before it. Raises SessionBusy while another turn of the session runs.

    A turn that nobody listens to any more gives way; for the others it waits as long as the settings say.
    """
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + runtime.settings.chat_busy_wait_seconds, _FIRST_PAUSE_SECONDS
    are_dead_gone = False
    while True:
        try:
            return await _store(runtime, principal, question, turn, draft, bot)
        except SessionBusy:
            principal = principal.proven()  # or the session would not have been reached
            other = runtime.turns.of_session(principal, turn.session_id)
            if other is not None and other.is_left_alone:
                other.stop()
                await other.ended()
            elif not are_dead_gone:
                are_dead_gone = True
                await _let_go_of_dead(runtime, principal, turn.session_id)
            elif loop.time() + pause > deadline or turn.is_ending:
                raise
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def _let_go_of_dead(runtime: Runtime, principal: Principal, session_id: str) -> None:
    async with runtime.database.direct(principal) as session:
        dead = clock.now() - timedelta(seconds=runtime.settings.longest_turn_seconds)
        await TurnRepository(session, principal).interrupt_dead_answer(session_id, before=dead)


async def _store(
    runtime: Runtime, principal: Principal, question: Question, turn: LiveTurn, draft: Draft, bot: Bot
) -> tuple[str, OpenedTurn, Bot]:
    history = runtime.settings.max_history_messages
    if question.regenerates or question.edits:
        async with runtime.database.direct(principal, flushed_later=True) as session:
            asked, opened = await _store_branch(runtime, session, principal, question, turn, draft, bot)
            own = await _bot_of_session(runtime, session, principal, question, draft, bot, opened.state)
            return asked, opened, own
    new = _new_turn(principal, question, draft, bot)
    async with runtime.database.single(principal.proven()) as session:
        stored = await TurnRepository(session, principal).open_turn(new, history=history)
    if stored is not None:
        return question.message, stored, bot
    principal = await auth.prove(runtime, principal)
    async with runtime.database.direct(principal) as session:
        stored = await TurnRepository(session, principal).open_turn(
            replace(new, any_bot=True), history=history
        )
        if stored is None:
            raise SessionNotFound
        own = await _bot_of_session(runtime, session, principal, question, draft, bot, stored.state)
        return question.message, stored, own


def _new_turn(principal: Principal, question: Question, draft: Draft, bot: Bot) -> NewTurn:
    return NewTurn(
        session_id=draft.session_id,
        title=" ".join(question.message.split())[:_TITLE_CHARACTERS],
        question_id=ids.new(ids.Prefix.MESSAGE),
        question=question.message,
        answer_id=draft.message_id,
        model=draft.model,
        bot_id=_stored_id(bot),
        bot_version_id=bot.version_id,
        names_bot=_names_bot(principal, question),
    )


async def _store_branch(
    runtime: Runtime,
    session: AnyTransaction,
    principal: Principal,
    question: Question,
    turn: LiveTurn,
    draft: Draft,
    bot: Bot,
) -> tuple[str, OpenedTurn]:
    branches = BranchRepository(session, principal)
    earlier_id = question.regenerates or question.edits or ""
    place = await branches.find(earlier_id)
    if place is None:
        raise MessageNotFound
    turn.session_id = place.session_id
    history = runtime.settings.max_history_messages
    if question.regenerates:
        if place.role != "assistant":
            raise NotAnAnswer
        fork = await branches.answer_again(
            place, earlier_id, answer_id=draft.message_id, model=draft.model, history=history
        )
    else:
        if place.role != "user":
            raise NotAQuestion
        fork = await branches.ask_otherwise(
            place,
            earlier_id,
            question.message,
            question_id=ids.new(ids.Prefix.MESSAGE),
            answer_id=draft.message_id,
            model=draft.model,
            history=history,
        )
    if bot.version_id is not None:
        await TurnRepository(session, principal).hand_to_bot(
            draft.message_id, model=draft.model, bot_version_id=bot.version_id
        )
    state = await TurnRepository(session, principal).state(place.session_id)
    return fork.question, OpenedTurn(fork.history, state)
