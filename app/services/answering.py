"""How an answer comes to be: passages for the question, then the model's words or the sources' own, with citations."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from app.core.bots import Bot
from app.core.principal import Principal
from app.core.retrieval import Hit
from app.rag import conversation, extractive, headings, no_answer, prompts
from app.rag.guardrails.answers import AnswerGuard
from app.rag.llms import ChatModel, Completion, Turn
from app.services import fallback, guarding, passages, scoping
from app.services.answers import AnswerDelta, ChatEvent, Question, SourcesFound
from app.services.drafts import Draft, source_of
from app.services.fallback import Succession
from app.services.guarding import Guard
from app.services.runtime import Runtime


def begin_search(runtime: Runtime, principal: Principal, bot: Bot, question: Question, draft: Draft) -> None:
    """Search while the turn is being stored: what most turns search for is the question as it was asked.

    Not where that may be something else, which a model makes of the question, nor where the question has to be in scope first.
    """
    is_plain = question.history is None and not question.regenerates and not question.edits
    if not is_plain or bot.answers_extractively or scoping.is_limited(bot):
        return
    if question.session_id is not None and conversation.leans_on_history(question.message):
        return
    limit = _top_k(runtime, bot, question)
    draft.search = passages.begin(
        runtime, principal, bot, question.message, limit=limit, where=question.where, ledger=draft.ledger
    )


async def answer(
    runtime: Runtime,
    principal: Principal,
    bot: Bot,
    question: Question,
    history: list[Turn],
    draft: Draft,
) -> AsyncGenerator[ChatEvent, None]:
    """SourcesFound, then AnswerDelta…; the draft has all of it.

    Raises what `passages.find` and `ChatModel.generate` raise.
    """
    guard = Guard(bot)
    try:
        async with aclosing(_guarded(runtime, principal, bot, question, history, draft, guard)) as events:
            async for event in events:
                yield event
    finally:
        draft.guardrails = guard.record()


async def _guarded(
    runtime: Runtime,
    principal: Principal,
    bot: Bot,
    question: Question,
    history: list[Turn],
    draft: Draft,
    guard: Guard,
) -> AsyncGenerator[ChatEvent, None]:
    draft.ledger.bot_id = bot.id
    succession = fallback.of_bot(runtime, bot, draft.ledger)
    asked = question.message
    said, history = history, guard.history(history)
    shown = guard.question(asked)
    if succession.model is not None and history and conversation.leans_on_history(asked):
        shown = await succession.standalone_question(history, shown)
        asked = guard.said_by_model(shown)
    if scoping.is_limited(bot) and not await scoping.is_within(runtime, bot, succession.model, asked, shown):
        draft.refused = True
        yield SourcesFound(())
        yield draft.add(guard.refusal(question.message, guarding.OUT_OF_SCOPE))
        return
    found = await passages.find(
        runtime,
        principal,
        bot,
        asked,
        limit=_top_k(runtime, bot, question),
        where=question.where,
        shown=shown,
        history=said if succession.model is None else (),
        early=None if succession.model is None else draft.search,
        ledger=draft.ledger,
    )
    hits, relevant, draft.degraded = found.hits, found.relevant, found.degraded
    places = await passages.boxes_of(runtime, principal, hits) if relevant else ()
    draft.sources = tuple(
        source_of(n, hit, boxes) for n, (hit, boxes) in enumerate(zip(hits, places, strict=False), start=1)
    )
    wordings = _wordings(asked, said if succession.model is None else ())
    if relevant and succession.model is None:
        for event in await _quoted(succession, wordings, question.message, hits, draft, guard):
            yield event
        return
    yield SourcesFound(draft.sources)
    if not relevant:
        draft.refused = True
        yield draft.add(guard.refusal(question.message, guarding.NOT_RELEVANT))
    else:
        async with aclosing(
            _worded(succession, bot, question, wordings, history, hits, draft, guard)
        ) as deltas:
            async for delta in deltas:
                yield delta


async def _quoted(
    succession: Succession,
    wordings: Sequence[str],
    question: str,
    hits: list[Hit],
    draft: Draft,
    guard: Guard,
) -> tuple[SourcesFound, AnswerDelta]:
    """The quotes where no model is to answer: whether what was found answers at all is known before any of it is told."""
    draft.model, draft.fallback = succession.name, succession.reason
    found = draft.sources
    quotes = await _quote(wordings, question, hits, draft, guard)
    if draft.refused:
        found = draft.sources = ()
    return SourcesFound(found), quotes


async def _worded(
    succession: Succession,
    bot: Bot,
    question: Question,
    wordings: Sequence[str],
    history: list[Turn],
    hits: list[Hit],
    draft: Draft,
    guard: Guard,
) -> AsyncGenerator[AnswerDelta, None]:
    """The answer in the words of the first model that has some, or in those of the sources."""
    while (model := succession.model) is not None:
        draft.model, draft.fallback = succession.name, succession.reason
        try:
            async with aclosing(_generate(model, bot, question, history, hits, draft, guard)) as deltas:
                async for delta in deltas:
                    yield delta
            return
        except fallback.FAILURES as failure:
            if draft.pieces:
                raise
            succession.pass_on(failure)
    draft.model, draft.fallback = succession.name, succession.reason
    yield await _quote(wordings, question.message, hits, draft, guard)


def _wordings(asked: str, history: Sequence[Turn]) -> list[str]:
    """The question; and where it points back and nothing made it standalone, the one before it and the question."""
    before = conversation.asked_before(history) if conversation.points_back(asked) else None
    return [asked] if before is None else [asked, f"{before} {asked}"]


def _top_k(runtime: Runtime, bot: Bot, question: Question) -> int:
    return question.top_k or bot.retrieval.top_k or runtime.settings.top_k_default


async def _quote(
    wordings: Sequence[str], question: str, hits: list[Hit], draft: Draft, guard: Guard
) -> AnswerDelta:
    """The extractive answer: sentences of the sources, word for word, for the first wording of the question that any answer."""
    quotable = [
        extractive.Passage(n, hit.text, headings.place(hit.title, hit.heading), hit.doubt)
        for n, hit in enumerate(hits, start=1)
    ]
    # The longest passages take 0.3 s of CPU, which the event loop does not have; a thread costs 0.1 ms.
    for wording in wordings:
        found = await asyncio.to_thread(extractive.extract, wording, quotable)
        if found.quotes:
            break
    else:
        draft.refused = True
        draft.cite((), lambda _: None)
        return draft.add(guard.refusal(question, guarding.NO_ANSWER))
    draft.cite({quote.n for quote in found.quotes}, lambda _: True)
    text = " ".join(f"{' '.join(quote.text.split())} [{quote.n}]" for quote in found.quotes)
    shown = guard.of_quotes(hits)
    return draft.add(shown.feed(text) + shown.flush())


async def _generate(
    model: ChatModel,
    bot: Bot,
    question: Question,
    history: list[Turn],
    hits: list[Hit],
    draft: Draft,
    guard: Guard,
) -> AsyncGenerator[AnswerDelta, None]:
    prompt = guard.prompt(hits)
    shown = guard.of_model(prompt, hits)
    turns = conversation.answer_turns(prompt, history, guard.asked)
    if question.preferences:
        preferences = guard.said_by_caller(question.preferences)
        turns[0] = Turn("system", prompts.with_preferences(turns[0].content, preferences))
    pieces = model.generate(
        turns,
        temperature=bot.model.temperature if question.temperature is None else question.temperature,
        max_tokens=min(bot.model.max_answer_tokens, question.max_tokens or bot.model.max_answer_tokens),
        stream=question.stream,
    )
    try:
        async with aclosing(pieces) as stream:
            async for piece in stream:
                if isinstance(piece, Completion):
                    draft.finish_reason = piece.finish_reason
                elif text := shown.feed(piece):
                    yield draft.add(text)
                if shown.leaked or (shown.declined and guard.has_refusal_text):
                    break
        if not shown.leaked and (text := shown.flush()):
            yield draft.add(text)
        if (refusal := _refusal(question.message, draft, guard, shown)) is not None:
            yield draft.add(refusal)
    finally:
        draft.cite(guard.cited, guard.supported)


def _refusal(question: str, draft: Draft, guard: Guard, shown: AnswerGuard) -> str | None:
    """What is to be added to an answer that refuses; None where nothing is."""
    if shown.leaked:
        draft.refused = True
        draft.finish_reason = "content_filter"
        refusal = guard.refusal(question, guarding.PROMPT_LEAK)
        return f"\n\n{refusal}" if draft.text.strip() else refusal
    if not shown.declined and not (not guard.cited and no_answer.says_no_answer(draft.text)):
        return None
    draft.refused = True
    if draft.text.strip():
        guard.declined()
        return None
    return guard.refusal(question, guarding.NO_ANSWER)
