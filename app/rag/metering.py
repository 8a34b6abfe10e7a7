"""The one place that every call of a chat model passes: admitted before, noted after, whatever became of it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, Protocol

from app.core.errors import ProviderStreamInterrupted, ProviderTimeout
from app.core.text import estimate_tokens
from app.core.usage import ModelCall, Purpose
from app.rag import prices
from app.rag.llms import ChatModel, Completion, Turn

_BYTES_A_TOKEN_AT_LEAST: Final = 2
"""A bound, not an estimate: no tokenizer in use makes more of ordinary text, in any script."""
_TOKENS_A_MESSAGE: Final = 16


class Meter(Protocol):
    """Who keeps the account of some calls."""

    async def admit(self, model: str, *, prompt_tokens: int, completion_tokens: int) -> None:
        """A call of this model that takes at most so much is about to be made. Raises BudgetSpent or BudgetReserved."""

    def note(self, call: ModelCall) -> None:
        """A call has ended."""


class MeteredModel(ChatModel):
    """A chat model for one purpose, whose calls a meter admits and notes."""

    def __init__(self, model: ChatModel, purpose: Purpose, meter: Meter) -> None:
        self.llm, self.config = model.llm, model.config  # its connections and its circuit stay the model's
        self._model = model
        self._purpose = purpose
        self._meter = meter

    def used_for(self, purpose: Purpose) -> "MeteredModel":
        """The same model for something else."""
        return MeteredModel(self._model, purpose, self._meter)

    def other(self, model: str) -> "MeteredModel":
        """Another model of the same provider, on the same account."""
        return MeteredModel(self._model.other(model), self._purpose, self._meter)

    async def generate(
        self, turns: Sequence[Turn], *, temperature: float, max_tokens: int, stream: bool
    ) -> AsyncGenerator[str | Completion, None]:
        """As ChatModel does; raises BudgetSpent and BudgetReserved too, before the model is called."""
        await self._meter.admit(
            self.config.model, prompt_tokens=_most_prompt_tokens(turns), completion_tokens=max_tokens
        )
        received: list[str] = []
        completion: Completion | None = None
        is_charged = False
        pieces = self._model.generate(turns, temperature=temperature, max_tokens=max_tokens, stream=stream)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    if isinstance(piece, Completion):
                        completion = piece
                    else:
                        received.append(piece)
                    yield piece
            is_charged = True
        except (ProviderTimeout, ProviderStreamInterrupted, asyncio.CancelledError, GeneratorExit):
            is_charged = True  # the provider had the question, and may have been answering
            raise
        finally:
            if is_charged or received or completion is not None:
                self._meter.note(self._charged(turns, received, completion))

    def _charged(
        self, turns: Sequence[Turn], received: Sequence[str], completion: Completion | None
    ) -> ModelCall:
        """By the provider's own count; by an estimate where it gave none, or not all of it was read."""
        prompt = completion.prompt_tokens if completion else None
        answered = completion.completion_tokens if completion else None
        is_estimated = prompt is None or answered is None
        if prompt is None:
            prompt = sum(estimate_tokens(turn.content) for turn in turns)
        if answered is None:
            answered = estimate_tokens("".join(received)) if received else 0
        cost = prices.cost_usd(self.config.model, prompt, answered, base_url=self.config.base_url)
        return ModelCall(self._purpose, self.config.model, prompt, answered, cost, is_estimated)


class EmbeddingTally:
    """The requests in which the texts of a document are embedded, to be noted as one call."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._tokens = 0
        self._is_uncounted = False
        self._is_estimated = False

    def count(self, tokens: int | None) -> None:
        """A request has ended, for which the provider counted so many."""
        self._tokens += tokens or 0
        self._is_uncounted = self._is_uncounted or tokens is None

    def estimate(self, texts: Sequence[str]) -> None:
        """These texts are embedded; where the provider did not count, they are counted here."""
        if self._is_uncounted:
            self._is_uncounted, self._is_estimated = False, True
            self._tokens += sum(map(estimate_tokens, texts))

    @property
    def call(self) -> ModelCall | None:
        """None where nothing was charged, as for the local model."""
        if not self._tokens:
            return None
        cost = prices.cost_usd(self._model, self._tokens, 0)
        return ModelCall(Purpose.EMBEDDING, self._model, self._tokens, 0, cost, self._is_estimated)


def probe(model: str, question: str) -> ModelCall:
    """A question that was asked past all limits, only to see whether a model answers; what it took is an estimate."""
    prompt, answered = estimate_tokens(question), 1
    return ModelCall(
        Purpose.PROBE, model, prompt, answered, prices.cost_usd(model, prompt, answered), estimated=True
    )


def _most_prompt_tokens(turns: Sequence[Turn]) -> int:
    return sum(len(turn.content.encode()) // _BYTES_A_TOKEN_AT_LEAST + _TOKENS_A_MESSAGE for turn in turns)
