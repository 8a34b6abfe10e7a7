"""Whether a bot is there for a question, before anything is searched: by its topics' vectors and, in doubt, by its model."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import structlog

from app.core.bots import Bot, Topic
from app.core.errors import AppError
from app.core.usage import Purpose
from app.rag import conversation, fusion, refusals
from app.rag.guardrails import scope
from app.rag.guardrails.scope import Judge, Judges, Verdict
from app.rag.metering import MeteredModel
from app.services import embeddings, retrieval
from app.services.runtime import Runtime

log = structlog.get_logger(__name__)

_JUDGES: Final = Judges()


def is_limited(bot: Bot) -> bool:
    """Whether a bot has topics at all."""
    return bool(bot.guardrails.in_scope or bot.guardrails.out_of_scope)


async def is_within(
    runtime: Runtime, bot: Bot, model: MeteredModel | None, question: str, shown: str
) -> bool:
    """Whether a question is within the topics of a bot; in doubt, and without a model, it is.

    What is found for it then decides. `shown` is what a provider may see of the question. Where nothing can be
    embedded and the settings let words alone be searched, it is in doubt; otherwise that failure is raised.
    """
    try:
        verdict = await _by_meaning(runtime, bot, question, shown)
    except retrieval.FAILURES as error:
        if not runtime.settings.search_by_words:
            raise
        log.warning("scope_not_compared", bot_id=bot.id, reason=error.code)
        verdict = Verdict.DOUBTFUL
    if verdict is not Verdict.DOUBTFUL or model is None:
        return verdict is not Verdict.OUTSIDE
    try:
        rules = bot.guardrails
        return await conversation.is_within_topics(
            model.used_for(Purpose.SCOPE),
            shown,
            inside=_names(rules.in_scope),
            outside=_names(rules.out_of_scope),
        )
    except AppError as error:  # the answer will show whether the model is away for longer
        log.warning("scope_not_judged", bot_id=bot.id, reason=error.code)
        return True


async def _by_meaning(runtime: Runtime, bot: Bot, question: str, shown: str) -> Verdict:
    runtime, vector = await retrieval.embed(runtime, question, shown=shown)
    judge = await _judge(runtime, bot)
    understood = fusion.understands(runtime.embeddings.fingerprint, refusals.language_of(question))
    return judge.judge(vector, understood=understood)


async def _judge(runtime: Runtime, bot: Bot) -> Judge:
    rules = bot.guardrails
    key = (runtime.embeddings.fingerprint, rules.in_scope, rules.out_of_scope)
    judge = _JUDGES.get(key)
    if judge is None:
        topics = [scope.texts_of(topic) for topic in (*rules.in_scope, *rules.out_of_scope)]
        texts = [text for topic in topics for text in topic]
        vectors = np.asarray(await embeddings.texts(runtime.embeddings, [*texts, *scope.PROBES]), np.float32)
        ends = np.cumsum([len(topic) for topic in topics])
        of_topics = np.split(vectors[: len(texts)], ends[:-1])
        inside = len(rules.in_scope)
        judge = Judge(of_topics[:inside], of_topics[inside:], vectors[len(texts) :])
        _JUDGES.add(key, judge)
    return judge


def _names(topics: Sequence[Topic]) -> list[str]:
    return [topic.description for topic in topics]
