"""How an answer comes to be: passages for the question, then the model's words or the sources' own, with citations."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from app.core.bots import Bot
from app.core.principal import Principal
from app.core.retrieval import Hit
from app.rag import conversation, extractive, headings, prices, refusals
from app.rag.citations import CitationFilter
from app.rag.llms import ChatModel, Completion, Turn
from app.rag.prompts import PromptSource
from app.services import bots, passages
from app.services.answers import Answer, AnswerDelta, ChatEvent, Question, Source, SourcesFound, Usage
from app.services.runtime import Runtime

_SNIPPET_CHARACTERS: Final = 300


@dataclass(slots=True)
class Draft:
    """The answer as far as it has come."""

    session_id: str
    message_id: str
    model: str
    started: float
    sources: tuple[Source, ...] = ()
    pieces: list[str] = field(default_factory=list)
    refused: bool = False
    finish_reason: str = "stop"
    usage: Usage = field(default_factory=Usage)

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
        )


async def answer(
    runtime: Runtime, principal: Principal, bot: Bot, question: Question, history: list[Turn], draft: Draft
) -> AsyncGenerator[ChatEvent, None]:
    """SourcesFound, then AnswerDelta…; the draft has all of it.

    Raises what `passages.find` and `ChatModel.generate` raise.
    """
    model = bots.chat_model(runtime, bot)
    asked = question.message
    if model is not None and history and conversation.leans_on_history(asked):
        asked = await conversation.standalone_question(model, history, asked)
    found = await passages.find(
        runtime,
        principal,
        bot,
        asked,
        limit=_top_k(runtime, bot, question),
        where=question.where,
        history=history if model is None else (),
    )
    hits, relevant = found.hits, found.relevant
    draft.sources = tuple(_source(n, hit) for n, hit in enumerate(hits, start=1)) if relevant else ()
    yield SourcesFound(draft.sources)
    if not relevant:
        draft.refused = True
        yield draft.add(refusals.sentence(question.message))
    elif model is None:
        before = conversation.asked_before(history) if conversation.points_back(asked) else None
        wordings = [asked] if before is None else [asked, f"{before} {asked}"]
        yield await _quote(wordings, hits, draft)
    else:
        async with aclosing(_generate(model, bot, question, history, hits, draft)) as deltas:
            async for delta in deltas:
                yield delta


def _top_k(runtime: Runtime, bot: Bot, question: Question) -> int:
    return question.top_k or bot.retrieval.top_k or runtime.settings.top_k_default


async def _quote(wordings: Sequence[str], hits: list[Hit], draft: Draft) -> AnswerDelta:
    """The extractive answer: sentences of the sources, word for word, for the first wording of the question that any answer."""
    quotable = [
        extractive.Passage(n, hit.text, headings.place(hit.title, hit.heading))
        for n, hit in enumerate(hits, start=1)
    ]
    # The longest passages take 0.3 s of CPU, which the event loop does not have; a thread costs 0.1 ms.
    for wording in wordings:
        found = await asyncio.to_thread(extractive.extract, wording, quotable)
        if found.quotes:
            break
    else:
        draft.refused = True
        draft.sources = ()
        return draft.add(refusals.sentence(wordings[0]))
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
        sources=[PromptSource(n, _place(hit), hit.text) for n, hit in enumerate(hits, start=1)],
        history=history,
        question=question.message,
    )
    citations = CitationFilter([source.n for source in draft.sources])
    pieces = model.generate(
        turns,
        temperature=bot.model.temperature if question.temperature is None else question.temperature,
        max_tokens=bot.model.max_answer_tokens,
        stream=question.stream,
    )
    try:
        async with aclosing(pieces) as stream:
            async for piece in stream:
                if isinstance(piece, Completion):
                    draft.finish_reason = piece.finish_reason
                    draft.usage = _usage(model, piece)
                elif text := citations.feed(piece):
                    yield draft.add(text)
        if text := citations.flush():
            yield draft.add(text)
    finally:
        draft.cite(citations.cited)


def _usage(model: ChatModel, completion: Completion) -> Usage:
    prompt, answered = completion.prompt_tokens, completion.completion_tokens
    return Usage(prompt, answered, prices.cost_usd(model.config.model, prompt, answered))


def _place(hit: Hit) -> str:
    return headings.place(hit.title, hit.heading, page=hit.page if hit.pages > 1 else None)


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
        heading=hit.heading,
    )


def _snippet(text: str) -> str:
    """The beginning of a passage on one line, cut at a word."""
    line = " ".join(text.split())
    if len(line) <= _SNIPPET_CHARACTERS:
        return line
    return line[:_SNIPPET_CHARACTERS].rsplit(" ", 1)[0] + " …"
