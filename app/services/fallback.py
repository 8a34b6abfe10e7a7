"""Who answers when a model does not: another model of its provider, then the sources' own sentences, where the bot says so."""

from collections.abc import Sequence
from typing import Final

import structlog

from app.core.bots import Bot
from app.core.config import EXTRACTIVE_MODEL
from app.core.errors import (
    AppError,
    ProviderError,
    ProviderStreamInterrupted,
    ProviderTimeout,
    ProviderUnavailable,
)
from app.core.usage import Purpose
from app.rag.conversation import standalone_question
from app.rag.llms import Turn
from app.rag.metering import MeteredModel
from app.services import bots
from app.services.runtime import Runtime
from app.services.usage import Ledger

log = structlog.get_logger(__name__)

FAILURES: Final = (ProviderUnavailable, ProviderTimeout, ProviderError, ProviderStreamInterrupted)
"""What may be mended by asking somebody else, as long as nothing of an answer was given out."""


class Succession:
    """The models of a bot in the order in which they are asked; `model` is None where the sources answer themselves."""

    def __init__(self, models: Sequence[MeteredModel], *, ends_extractively: bool) -> None:
        self._models = list(models)
        self._ends_extractively = ends_extractively or not models
        self._first_failure: AppError | None = None

    @property
    def model(self) -> MeteredModel | None:
        return self._models[0] if self._models else None

    @property
    def name(self) -> str:
        """Who answers, as the answer says it."""
        return self._models[0].config.model if self._models else EXTRACTIVE_MODEL

    @property
    def reason(self) -> str | None:
        """Why it is not the first one any more."""
        return None if self._first_failure is None else self._first_failure.code

    def pass_on(self, failure: AppError) -> None:
        """The next one takes over. Raises the first failure when there is none."""
        self._first_failure = self._first_failure or failure
        failed = self._models.pop(0)
        if not self._models and not self._ends_extractively:
            raise self._first_failure
        log.warning("model_fallback", failed=failed.config.model, reason=failure.code, next=self.name)

    async def standalone_question(self, history: Sequence[Turn], question: str) -> str:
        """The question with what it leaves to the conversation filled in; as it is when no model does that."""
        while (model := self.model) is not None:
            try:
                rewriting = model.used_for(Purpose.STANDALONE_QUESTION)
                return await standalone_question(rewriting, history, question)
            except FAILURES as failure:
                self.pass_on(failure)
        return question


def of_bot(runtime: Runtime, bot: Bot, ledger: Ledger) -> Succession:
    """The bot's models, on this account."""
    unmetered = bots.chat_model(runtime, bot)
    if unmetered is None:
        return Succession((), ends_extractively=True)
    model = ledger.metered(unmetered, Purpose.ANSWER)
    models = [model]
    if bot.model.fallback_model:
        models.append(model.other(bot.model.fallback_model))
    return Succession(models, ends_extractively=bot.model.extractive_fallback)
