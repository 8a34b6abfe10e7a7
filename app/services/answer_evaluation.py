"""How good a bot's answers are: each question is answered as in a conversation of its own, and nothing of it is stored."""

import time
from contextlib import aclosing
from typing import Final

import structlog

from app.core import ids
from app.core.answer_measures import AnswerResult, contains
from app.core.bots import Bot
from app.core.errors import AppError
from app.core.principal import Principal
from app.core.usage import Purpose
from app.db.repositories.chunks import ChunkRepository
from app.rag import judging
from app.services import answering, bots, usage
from app.services.answers import Question, Source
from app.services.drafts import Draft
from app.services.question_sets import Asked, KeysOf
from app.services.runtime import Runtime
from app.services.usage import Ledger

log = structlog.get_logger(__name__)

_MOST_JUDGED_CHARACTERS: Final = 12_000


async def answer(
    runtime: Runtime,
    principal: Principal,
    bot: Bot,
    question: Asked,
    *,
    keys_of: KeysOf,
    judged: bool = False,
) -> AnswerResult:
    """Answer one question and measure that: a source is right when it has a right answer in it or, where none is known, when
    it is of what the question expects. With `judged`, the bot's model says how faithful the answer is to its sources.

    Raises what `answering.answer` raises.
    """
    async with usage.account(runtime, principal, bot_id=bot.id) as ledger:
        return await _measured(runtime, principal, bot, question, ledger, keys_of=keys_of, judged=judged)


async def _measured(
    runtime: Runtime,
    principal: Principal,
    bot: Bot,
    question: Asked,
    ledger: Ledger,
    *,
    keys_of: KeysOf,
    judged: bool,
) -> AnswerResult:
    started = time.monotonic()
    draft = Draft(
        ids.new(ids.Prefix.SESSION), ids.new(ids.Prefix.MESSAGE), bot.model.model, started, ledger=ledger
    )
    asked = Question(message=question.text)
    async with aclosing(answering.answer(runtime, principal, bot, asked, [], draft)) as events:
        async for _ in events:
            pass
    seconds = time.monotonic() - started
    texts = await _texts(runtime, principal, draft.sources)
    right = [
        contains(text, question.answers)
        if question.answers
        else not question.relevant.keys().isdisjoint(keys_of(question, [source]))
        for source, text in zip(draft.sources, texts, strict=True)
    ]
    cited = [source.cited for source in draft.sources]
    is_graded = bool(question.answers) and not draft.refused
    return AnswerResult(
        answerable=question.is_answerable,
        refused=draft.refused,
        contains_gold=contains(draft.text, question.answers) if is_graded else None,
        cited=sum(cited),
        cited_right=sum(is_right and is_cited for is_right, is_cited in zip(right, cited, strict=True)),
        given_right=any(right),
        faithful=await _faithful(runtime, bot, draft, texts, ledger)
        if judged and not draft.refused
        else None,
        seconds=seconds,
    )


async def _texts(runtime: Runtime, principal: Principal, sources: tuple[Source, ...]) -> list[str]:
    """What stands where the sources say that it does."""
    if not sources:
        return []
    async with runtime.database.direct(principal) as session:
        found = await ChunkRepository(session, principal).texts_of_ranges(
            [(source.document_id, source.page, source.start, source.end) for source in sources]
        )
    return [text or "" for text in found]


async def _faithful(
    runtime: Runtime, bot: Bot, draft: Draft, texts: list[str], ledger: Ledger
) -> float | None:
    """None where no model can judge it."""
    model = bots.chat_model(runtime, bot)
    if model is None:
        return None
    cited = [
        (source.n, text[:_MOST_JUDGED_CHARACTERS])
        for source, text in zip(draft.sources, texts, strict=True)
        if source.cited
    ]
    try:
        return await judging.faithfulness(ledger.metered(model, Purpose.EVALUATION), draft.text, cited)
    except AppError as error:
        log.warning("answer_not_judged", reason=error.code)
        return None
