"""A turn of a conversation: question in, events out, both messages stored whatever happens in between.

The database is used in three short transactions (open the turn, search, finish it); none is open while a provider is
asked. Whoever stops consuming the events stops the provider: the partial answer is stored as interrupted.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import anyio
import structlog

from app.core import clock, ids
from app.core.errors import AppError, SessionBusy, SessionNotFound
from app.core.principal import Principal
from app.core.retrieval import EVERYTHING, Hit, SearchFilter
from app.core.text import clean
from app.db.engine import Transaction
from app.db.models import Message, MessageStatus
from app.db.repositories.conversations import ConversationRepository
from app.db.repositories.turns import NewTurn, StoredTurn, TurnRepository
from app.rag import conversation, extractive, prices, refusals
from app.rag.citations import CitationFilter
from app.rag.llms import ChatModel, Completion, Turn
from app.rag.prompts import PromptSource
from app.services import retrieval
from app.services.runtime import Runtime

log = structlog.get_logger(__name__)

_TITLE_CHARACTERS: Final = 80
_SNIPPET_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class Question:
    """What a caller asks, with every default filled in; `session_id` None starts a new session."""

    message: str
    session_id: str | None = None
    history: tuple[Turn, ...] | None = None
    where: SearchFilter = EVERYTHING
    top_k: int = 5
    temperature: float = 0.2
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A chunk given to the model; `start` and `end` are code points into the text of its page."""

    n: int
    document_id: str
    title: str
    source: str | None
    chunk_id: str
    page: int
    start: int
    end: int
    snippet: str
    score: float
    cited: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them, and what they cost; None where it did not say or no price is known."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    session_id: str
    message_id: str
    answer: str
    sources: tuple[Source, ...]
    refused: bool
    usage: Usage
    model: str
    finish_reason: str


@dataclass(frozen=True, slots=True)
class TurnStarted:
    session_id: str
    message_id: str


@dataclass(frozen=True, slots=True)
class SourcesFound:
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    delta: str


@dataclass(frozen=True, slots=True)
class AnswerDone:
    answer: Answer


ChatEvent = TurnStarted | SourcesFound | AnswerDelta | AnswerDone


@dataclass(slots=True)
class _Draft:
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
            _with_cited(source) if source.n in numbers else source for source in self.sources
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


def _with_cited(source: Source) -> Source:
    return replace(source, cited=True)


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
    draft, history = await _open(runtime, principal, question)
    status = MessageStatus.INTERRUPTED
    try:
        yield TurnStarted(draft.session_id, draft.message_id)
        async with aclosing(_answer(runtime, principal, question, history, draft)) as events:
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


async def _open(runtime: Runtime, principal: Principal, question: Question) -> tuple[_Draft, list[Turn]]:
    """Store the question and the row of the answer to come; return the draft and the history."""
    settings = runtime.settings
    draft = _Draft(
        session_id=question.session_id or ids.new(ids.Prefix.SESSION),
        message_id=ids.new(ids.Prefix.MESSAGE),
        model=runtime.model_name,
        started=time.monotonic(),
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


async def _answer(
    runtime: Runtime, principal: Principal, question: Question, history: list[Turn], draft: _Draft
) -> AsyncGenerator[ChatEvent, None]:
    model = runtime.chat_model
    asked = question.message
    if model is not None and history and conversation.leans_on_history(asked):
        asked = await conversation.standalone_question(model, history, asked)
    hits = await retrieval.search(runtime, principal, asked, limit=question.top_k, where=question.where)
    relevant = retrieval.is_relevant(hits)
    draft.sources = tuple(_source(n, hit) for n, hit in enumerate(hits, start=1)) if relevant else ()
    yield SourcesFound(draft.sources)
    if not relevant:
        draft.refused = True
        yield draft.add(refusals.sentence(question.message))
    elif model is None:
        yield await _quote(asked, question.message, hits, draft)
    else:
        async with aclosing(_generate(model, runtime, question, history, hits, draft)) as deltas:
            async for delta in deltas:
                yield delta


async def _quote(asked: str, question: str, hits: list[Hit], draft: _Draft) -> AnswerDelta:
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
    runtime: Runtime,
    question: Question,
    history: list[Turn],
    hits: list[Hit],
    draft: _Draft,
) -> AsyncGenerator[AnswerDelta, None]:
    turns = conversation.answer_turns(
        sources=[PromptSource(n, hit.title, hit.text) for n, hit in enumerate(hits, start=1)],
        history=history,
        question=question.message,
    )
    citations = CitationFilter([source.n for source in draft.sources])
    pieces = model.generate(
        turns,
        temperature=question.temperature,
        max_tokens=runtime.settings.chat_max_answer_tokens,
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


def _stored(source: Source) -> dict[str, Any]:
    # `asdict` copies every value deeply, at ten times the cost.
    return {name: getattr(source, name) for name in Source.__slots__}


def _snippet(text: str) -> str:
    """The beginning of a passage on one line, cut at a word."""
    line = " ".join(text.split())
    if len(line) <= _SNIPPET_CHARACTERS:
        return line
    return line[:_SNIPPET_CHARACTERS].rsplit(" ", 1)[0] + " …"


async def _finish(runtime: Runtime, principal: Principal, draft: _Draft, status: MessageStatus) -> None:
    usage = draft.usage
    values: dict[str, Any] = {
        "content": draft.text,
        "status": status,
        "sources": [_stored(source) for source in draft.sources],
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cost_usd": None if usage.cost_usd is None else str(usage.cost_usd),
        },
        "model": draft.model,
        "refused": draft.refused,
        "finish_reason": draft.finish_reason,
        "latency_ms": round((time.monotonic() - draft.started) * 1000),
    }
    async with runtime.database.direct(principal) as session:
        await TurnRepository(session, principal).finish_answer(draft.message_id, values)


async def _finish_despite_cancellation(
    runtime: Runtime, principal: Principal, draft: _Draft, status: MessageStatus
) -> None:
    """The caller may be going away (its task cancelled): what there is of the answer is stored all the same."""
    try:
        with anyio.CancelScope(shield=True):
            await _finish(runtime, principal, draft, status)
    except AppError as error:  # the reaper will find the row; the first error is the one to report
        log.warning("partial_answer_not_stored", message_id=draft.message_id, reason=error.code)
