"""What follows a turn when nobody waits any more: a better title for a new session, a summary of what grows too long.

A model sees of the conversation what the bot lets it see of a turn: personal data masked where that is its policy.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.core.bots import Bot
from app.core.config import Settings
from app.core.errors import SessionNotFound
from app.core.principal import Principal, PrincipalKind
from app.core.text import estimate_tokens
from app.core.usage import Purpose
from app.db.models import Message, MessageStatus, TitleSource
from app.db.repositories.conversations import ConversationRepository
from app.db.repositories.sessions import SessionRepository
from app.rag import conversation, recaps
from app.rag.llms import Turn
from app.services import bots, usage
from app.services.guarding import Guard
from app.services.runtime import Runtime

_FIRST_TURNS: Final = 4
"""Messages before a turn after which no title is tried any more."""

_ANSWER_CHARACTERS: Final = 2_000
_READ_AT_ONCE: Final = 100
_FEWEST_SUMMARISED: Final = 4
_SUMMARISED: Final = (MessageStatus.COMPLETE, MessageStatus.STOPPED)


@dataclass(frozen=True, slots=True)
class Ended:
    """A turn that came to its end: what its session was like when it began, and what was said."""

    session_id: str
    title_source: str
    earlier: Sequence[Turn]
    """Its last messages before the turn, as many as were read."""
    question: str
    answer: str


def given(settings: Settings, said: Sequence[Turn], summary: str | None) -> list[Turn]:
    """What a model is told of the conversation: the newest turns within the budget, before them a summary of older ones."""
    most = settings.max_history_messages
    newest = said[-most:] if most else []
    recap = [recaps.as_turn(summary)] if summary is not None and most else []
    left = settings.max_history_tokens - sum(estimate_tokens(turn.content) for turn in recap)
    if left < 0:
        recap, left = [], settings.max_history_tokens
    return [*recap, *conversation.within_budget(newest, left)]


def follow(runtime: Runtime, principal: Principal, bot: Bot, ended: Ended) -> None:
    """Begin what is to be done after this turn, which in most cases is nothing. Never waits, never fails."""
    if bot.answers_extractively:
        return
    if wants_title(runtime.settings, principal, ended):
        runtime.background.start(lambda: entitle(runtime, principal, bot, ended), name="title of a session")
    if bot.summarise_history and _is_long(runtime.settings, ended):
        runtime.background.start(
            lambda: summarise(runtime, principal, bot, ended.session_id), name="summary of a session"
        )


def wants_title(settings: Settings, principal: Principal, ended: Ended) -> bool:
    """Whether the session is still called after its first question, and somebody may read its name in a list."""
    if ended.title_source != TitleSource.QUESTION or len(ended.earlier) > _FIRST_TURNS or not ended.answer:
        return False
    if settings.chat_titles == "people":
        return principal.kind is PrincipalKind.USER
    return settings.chat_titles == "all"


def _is_long(settings: Settings, ended: Ended) -> bool:
    """Whether the next turn would not be given all that was said."""
    said = [*ended.earlier, Turn("user", ended.question), Turn("assistant", ended.answer)]
    tokens = sum(estimate_tokens(turn.content) for turn in said)
    return len(said) > settings.max_history_messages or tokens > settings.max_history_tokens


async def entitle(runtime: Runtime, principal: Principal, bot: Bot, ended: Ended) -> None:
    """Give the session a title by the model, unless it has got another one meanwhile."""
    model = bots.chat_model(runtime, bot)
    if model is None:
        return
    guard = Guard(bot)
    question = next((turn.content for turn in ended.earlier if turn.role == "user"), ended.question)
    shown = guard.history([Turn("user", question), Turn("assistant", ended.answer[:_ANSWER_CHARACTERS])])
    async with usage.account(runtime, principal, bot_id=bot.id, session_id=ended.session_id) as ledger:
        title = await recaps.title(ledger.metered(model, Purpose.TITLE), shown[0].content, shown[1].content)
    if title is None:
        return
    async with runtime.database.direct(principal) as session:
        await SessionRepository(session, principal).entitle(ended.session_id, guard.said_by_model(title))


async def summarise(runtime: Runtime, principal: Principal, bot: Bot, session_id: str) -> None:
    """Take what is older than half of the next turn's budget into the session's summary."""
    model = bots.chat_model(runtime, bot)
    if model is None:
        return
    async with runtime.database.unit_of_work(principal) as session:
        details = await SessionRepository(session, principal).find(session_id)
        if details is None:
            raise SessionNotFound
        known, summary = details.summary_through, details.summary
        if not details.summary_is_shown:
            summary = None
        found = await ConversationRepository(session, principal).messages(
            session_id, limit=_READ_AT_ONCE, offset=0, after=known if summary else None
        )
    older = _older_than_kept(runtime.settings, [m for m in found if m.status in _SUMMARISED and m.content])
    if len(older) < _FEWEST_SUMMARISED:
        return
    said = [Turn("user", summary or ""), *(Turn(message.role, message.content) for message in older)]
    guard = Guard(bot)
    # Looking for personal data takes 0.1 s of CPU for the longest of conversations, which the event loop does not have.
    before, *shown = await asyncio.to_thread(guard.history, said)
    async with usage.account(runtime, principal, bot_id=bot.id, session_id=session_id) as ledger:
        written = await recaps.summary(ledger.metered(model, Purpose.SUMMARY), before.content or None, shown)
    if written is None:
        return
    async with runtime.database.direct(principal) as session:
        await SessionRepository(session, principal).summarise(
            session_id, guard.said_by_model(written), through=older[-1].position, known=known
        )


def _older_than_kept(settings: Settings, messages: Sequence[Message]) -> Sequence[Message]:
    """Those that stand before the newest ones, which are given to the model word for word for some turns to come."""
    turns = [Turn(message.role, message.content) for message in messages]
    kept = conversation.within_budget(turns, settings.max_history_tokens // 2)
    most = settings.max_history_messages // 2
    return messages[: len(messages) - min(len(kept), most)]
