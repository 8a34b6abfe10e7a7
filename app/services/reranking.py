"""The reranker of a bot: who puts the found passages in order again. Where it fails or takes too long, their order stays."""

import asyncio
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

import structlog

from app.core.bots import Bot, PiiPolicy, RerankerKind, RerankerSettings
from app.core.counters import counters
from app.core.errors import AppError
from app.core.retrieval import Hit
from app.core.usage import Purpose
from app.rag import reranking
from app.rag.cross_encoder import CrossEncoderError
from app.rag.headings import place
from app.rag.llms import ChatModel
from app.rag.provider_http import ProviderConnectionError
from app.rag.reranking import UnusableOrder
from app.services import bots
from app.services.runtime import Runtime
from app.services.usage import Ledger

log = structlog.get_logger(__name__)

_MOST_CHARACTERS: Final = 4_000


@dataclass(frozen=True, slots=True)
class Reranking:
    """Whether the order is the reranker's, and if not, why."""

    done: bool
    reason: str | None = None


class _Failed(Exception):
    """The reason is a word for programs."""


async def rerank(
    runtime: Runtime, bot: Bot, question: str, hits: list[Hit], ledger: Ledger
) -> tuple[list[Hit], Reranking | None]:
    """The hits in the order of the bot's reranker, and what became of it; None where the bot has none.

    Never raises for a reranker: the hits come back in the order that they have.
    """
    settings = bot.retrieval.reranker
    if settings.kind is RerankerKind.NONE or len(hits) < 2:
        return hits, None
    if settings.kind is not RerankerKind.LOCAL and bot.guardrails.pii is not PiiPolicy.OFF:
        return hits, _left(bot, "personal_data")
    asked, rest = hits[: settings.candidates], hits[settings.candidates :]
    try:
        async with asyncio.timeout(settings.timeout_seconds):
            order = await _order(runtime, bot, settings, question, asked, ledger)
    except TimeoutError:
        return hits, _left(bot, "timeout")
    except _Failed as failure:
        return hits, _left(bot, str(failure))
    except AppError as error:  # of the language model, or a key that can't be read
        return hits, _left(bot, error.code)
    counters.add("reranking", outcome="done", kind=settings.kind.value)
    return [asked[position] for position in order] + rest, Reranking(done=True)


def _left(bot: Bot, reason: str) -> Reranking:
    kind = bot.retrieval.reranker.kind.value
    counters.add("reranking", outcome="failed", kind=kind)
    log.warning("not_reranked", bot_id=bot.id, kind=kind, reason=reason)
    return Reranking(done=False, reason=reason)


async def _order(
    runtime: Runtime,
    bot: Bot,
    settings: RerankerSettings,
    question: str,
    hits: list[Hit],
    ledger: Ledger,
) -> list[int]:
    """Positions, best first. Raises _Failed and AppError."""
    texts = [f"{place(hit.title, hit.heading)}\n{hit.text}"[:_MOST_CHARACTERS] for hit in hits]
    try:
        match settings.kind:
            case RerankerKind.LLM:
                model = ledger.metered(_language_model(runtime, bot, settings), Purpose.RERANKING)
                return await reranking.by_model(model, question, texts)
            case RerankerKind.HTTP:
                return await _by_service(runtime, settings, question, texts)
            case _:
                return await _by_cross_encoder(runtime, question, texts)
    except UnusableOrder as error:
        raise _Failed("unusable_answer") from error


def _language_model(runtime: Runtime, bot: Bot, settings: RerankerSettings) -> ChatModel:
    model = bots.chat_model(runtime, bot)
    if model is None:
        raise _Failed("no_model")
    if settings.model is None or settings.model == bot.model.model:
        return model
    return runtime.bot_models.of(replace(bot.model, model=settings.model))


async def _by_service(
    runtime: Runtime, settings: RerankerSettings, question: str, texts: list[str]
) -> list[int]:
    if settings.url is None:
        raise _Failed("no_url")
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if settings.api_key_encrypted is not None:
        headers["Authorization"] = f"Bearer {runtime.keyring.decrypt(settings.api_key_encrypted)}"
    client = runtime.bot_models.client(anywhere=settings.anywhere)
    try:
        reply = await client.post(
            settings.url, reranking.request_body(question, texts, model=settings.model), headers
        )
    except ProviderConnectionError as error:
        raise _Failed("unreachable") from error
    if reply.status != HTTPStatus.OK:
        raise _Failed(f"status_{reply.status}")
    return reranking.read_scores(reply.content, count=len(texts))


async def _by_cross_encoder(runtime: Runtime, question: str, texts: list[str]) -> list[int]:
    if runtime.cross_encoder is None:
        raise _Failed("no_reranker_folder")
    try:
        scores = await runtime.cross_encoder.scores(question, texts)
    except CrossEncoderError as error:
        log.error("cross_encoder_failed", exc_info=error)
        raise _Failed("cross_encoder_failed") from error
    return sorted(range(len(texts)), key=lambda position: -scores[position])
