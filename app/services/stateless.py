"""A turn that leaves no conversation behind: for callers who keep theirs themselves. What it cost is in the ledger all the same."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from app.core import ids
from app.core.bots import Bot
from app.core.principal import Principal
from app.core.text import clean
from app.rag import conversation
from app.rag.llms import Turn
from app.rag.stops import StopFilter
from app.services import answering, bots, usage
from app.services.answers import Answer, AnswerDelta, AnswerDone, ChatEvent, Question, Source
from app.services.drafts import Draft
from app.services.runtime import Runtime
from app.services.usage import Ledger


async def converse(
    runtime: Runtime, principal: Principal, question: Question
) -> AsyncGenerator[ChatEvent, None]:
    """SourcesFound, AnswerDelta…, AnswerDone. Closing it stops the provider, as a stop sequence of the question does.

    Raises BotNotFound, and what `answering.answer` raises.
    """
    runtime.require_matching_index()
    question = replace(question, message=clean(question.message))
    bot = await bots.resolve(runtime, principal, question.bot_id)
    message_id = ids.new(ids.Prefix.MESSAGE)
    async with usage.account(runtime, principal, bot_id=bot.id, message_id=message_id) as ledger:
        draft = _draft(bot, message_id, ledger)
        stops, said = StopFilter(question.stop), list[str]()
        events = answering.answer(runtime, principal, bot, question, _history(runtime, question), draft)
        async with aclosing(events):
            async for event in events:
                if not isinstance(event, AnswerDelta):
                    yield event
                elif text := stops.feed(event.delta):
                    said.append(text)
                    yield AnswerDelta(text)
                if stops.is_stopped:
                    break
        if rest := stops.flush():
            said.append(rest)
            yield AnswerDelta(rest)
    text = "".join(said)
    sources = _cited_in(text, draft.sources) if stops.is_stopped else draft.sources
    yield AnswerDone(replace(draft.answer(), answer=text, sources=sources))


async def answer(runtime: Runtime, principal: Principal, question: Question) -> Answer:
    """The same without its events."""
    async with aclosing(converse(runtime, principal, question)) as events:
        async for event in events:
            if isinstance(event, AnswerDone):
                return event.answer
    raise AssertionError("a turn ends with AnswerDone or raises")


def _cited_in(text: str, sources: tuple[Source, ...]) -> tuple[Source, ...]:
    """The sources of an answer that was cut: what it cited behind its end, it does not cite."""
    return tuple(
        source if f"[{source.n}]" in text else replace(source, cited=False, supported=None)
        for source in sources
    )


def _draft(bot: Bot, message_id: str, ledger: Ledger) -> Draft:
    return Draft(
        session_id="",
        message_id=message_id,
        model=bot.model.model,
        started=time.monotonic(),
        ledger=ledger,
    )


def _history(runtime: Runtime, question: Question) -> list[Turn]:
    """The newest of what the caller sent along, as much as a stored conversation would be read."""
    settings = runtime.settings
    if not question.history or not settings.max_history_messages:
        return []
    newest = question.history[-settings.max_history_messages :]
    turns = [Turn(turn.role, clean(turn.content)) for turn in newest]
    return conversation.within_budget(turns, settings.max_history_tokens)
