"""Other wordings of a question, as a bot wants them. Where none come in time, the question is searched with alone."""

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from app.core.bots import Bot, Expansion, PiiPolicy
from app.core.counters import counters
from app.core.errors import AppError
from app.core.usage import Purpose
from app.rag import expansion
from app.rag.llms import ChatModel
from app.services import bots
from app.services.runtime import Runtime
from app.services.usage import Ledger

log = structlog.get_logger(__name__)

_LONGEST_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Expanding:
    """Whether the question was put in other words, and if not, why: in the words of `Reranking`."""

    done: bool
    reason: str | None = None


def model_of(runtime: Runtime, bot: Bot) -> tuple[ChatModel | None, Expanding | None]:
    """Who puts a bot's questions in other words, or why nobody does; both None where the bot wants none."""
    if bot.retrieval.expansion is Expansion.NONE:
        return None, None
    if bot.guardrails.pii is not PiiPolicy.OFF:
        return None, Expanding(done=False, reason="personal_data")
    model = bots.chat_model(runtime, bot)
    return model, None if model is not None else Expanding(done=False, reason="no_model")


async def wordings(
    kind: Expansion, model: ChatModel, question: str, ledger: Ledger
) -> tuple[list[str], Expanding]:
    """Other wordings; none when the model fails or takes too long."""
    expand = expansion.variants if kind is Expansion.MULTI_QUERY else expansion.hypothetical_answer
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            found = await expand(ledger.metered(model, Purpose.EXPANSION), question)
    except (TimeoutError, AppError) as error:
        reason = error.code if isinstance(error, AppError) else "timeout"
        counters.add("expansion", outcome="failed", kind=kind.value)
        log.warning("not_expanded", kind=kind.value, reason=reason)
        return [], Expanding(done=False, reason=reason)
    counters.add("expansion", outcome="done", kind=kind.value)
    return found, Expanding(done=True)
