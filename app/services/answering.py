"""How an answer comes to be: passages for the question, then the model's words or the sources' own, with citations."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from app.core.bots import Bot
from app.core.principal import Principal
from app.core.retrieval import Hit
from app.rag import conversation, extractive, prompts, refusals
from app.rag.citations import CitationFilter
from app.rag.llms import ChatModel, Completion, Turn
from app.rag.prompts import PromptSource
from app.services import fallback, retrieval
from app.services.answers import Answer, AnswerDelta, ChatEvent, Question, Source, SourcesFound, Usage
from app.services.fallback import Succession
from app.services.runtime import Runtime
from app.services.usage import Ledger

_SNIPPET_CHARACTERS: Final = 300


@dataclass(slots=True)
class Draft:
    """The answer as far as it has come."""

    session_id: str
    message_id: str
    model: str
    started: float
    ledger: Ledger
    """What its model calls cost."""
    sources: tuple[Source, ...] = ()
    pieces: list[str] = field(default_factory=list)
    refused: bool = False
    finish_reason: str = "stop"
    fallback: str | None = None

    @property
    def usage(self) -> Usage:
        return self.ledger.usage

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def add(self, piece: str) -> AnswerDelta:
        self.pieces.append(piece)
        return AnswerDelta(piece)

    def cite(self, numbers: set[int]) -> None:
        self.sources = tuple(
            replace(source, cited=True) if source.n in numbers else source for source in self.sources
        )

    def answer(self) -> Answer:
        return Answer(
            session_id=self.session_id,
            message_id=self.message_id,
            answer=self.text,
            sources=self.sources,
            refused=self.refused,
            usage=self.usage,
            model=self.model,
            finish_reason=self.finish_reason,
            fallback=self.fallback,
        )


async def answer(
    runtime: Runtime, principal: Principal, bot: Bot, question: Question, history: list[Turn], draft: Draft
) -> AsyncGenerator[ChatEvent, None]:
    """SourcesFound, then AnswerDelta…; the draft has all of it.

    Raises what `retrieval.search` and `ChatModel.generate` raise.
    """
    draft.ledger.bot_id = bot.id
    succession = fallback.of_bot(runtime, bot, draft.ledger)
    asked = question.message
    if succession.model is not None and history and conversation.leans_on_history(asked):
        asked = await succession.standalone_question(history, asked)
    hits = await retrieval.search(
        runtime, principal, asked, limit=_top_k(runtime, bot, question), where=question.where
    )
    relevant = retrieval.is_relevant(hits)
    draft.sources = tuple(_source(n, hit) for n, hit in enumerate(hits, start=1)) if relevant else ()
    yield SourcesFound(draft.sources)
    if not relevant:
        draft.refused = True
        yield draft.add(refusals.sentence(question.message))
    else:
        async with aclosing(_worded(succession, bot, question, asked, history, hits, draft)) as deltas:
            async for delta in deltas:
                yield delta


async def _worded(
    succession: Succession,
    bot: Bot,
    question: Question,
    asked: str,
    history: list[Turn],
    hits: list[Hit],
    draft: Draft,
) -> AsyncGenerator[AnswerDelta, None]:
    """The answer in the words of the first model that has some, or in those of the sources."""
    while (model := succession.model) is not None:
        draft.model, draft.fallback = succession.name, succession.reason
        try:
            async with aclosing(_generate(model, bot, question, history, hits, draft)) as deltas:
                async for delta in deltas:
                    yield delta
            return
        except fallback.FAILURES as failure:
            if draft.pieces:
                raise
            succession.pass_on(failure)
    draft.model, draft.fallback = succession.name, succession.reason
    yield await _quote(asked, question.message, hits, draft)


def _top_k(runtime: Runtime, bot: Bot, question: Question) -> int:
    return question.top_k or bot.retrieval.top_k or runtime.settings.top_k_default


async def _quote(asked: str, question: str, hits: list[Hit], draft: Draft) -> AnswerDelta:
    """The extractive answer: sentences of the sources, word for word."""
    passages = [extractive.Passage(n, hit.text, hit.title) for n, hit in enumerate(hits, start=1)]
    # The longest passages take 0.3 s of CPU, which the event loop does not have; a thread costs 0.1 ms.
    found = await asyncio.to_thread(extractive.extract, asked, passages)
    if not found.quotes:
        draft.refused = True
        draft.sources = ()
        return draft.add(refusals.sentence(question))
    draft.cite({quote.n for quote in found.quotes})
    return draft.add(" ".join(f"{' '.join(quote.text.split())} [{quote.n}]" for quote in found.quotes))


async def _generate(
    model: ChatModel,
    bot: Bot,
    question: Question,
    history: list[Turn],
    hits: list[Hit],
    draft: Draft,
) -> AsyncGenerator[AnswerDelta, None]:
    turns = conversation.answer_turns(
        sources=[PromptSource(n, hit.title, hit.text) for n, hit in enumerate(hits, start=1)],
        history=history,
        question=question.message,
    )
    if question.preferences:
        turns[0] = Turn("system", prompts.with_preferences(turns[0].content, question.preferences))
    citations = CitationFilter([source.n for source in draft.sources])
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
                elif text := citations.feed(piece):
                    yield draft.add(text)
        if text := citations.flush():
            yield draft.add(text)
    finally:
        draft.cite(citations.cited)


def _source(n: int, hit: Hit) -> Source:
    return Source(
        n=n,
        document_id=hit.document_id,
        title=hit.title,
        source=hit.source,
        chunk_id=hit.chunk_id,
        page=hit.page,
        start=hit.start,
        end=hit.end,
        snippet=_snippet(hit.text),
        score=round(hit.score, 4),
    )


def _snippet(text: str) -> str:
    """The beginning of a passage on one line, cut at a word."""
    line = " ".join(text.split())
    if len(line) <= _SNIPPET_CHARACTERS:
        return line
    return line[:_SNIPPET_CHARACTERS].rsplit(" ", 1)[0] + " …"
