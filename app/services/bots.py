"""Bots: which one answers a question, and with which model."""

from app.core.bots import DEFAULT_BOT, Bot, Guardrails, ModelSettings, Provider, RetrievalSettings
from app.core.config import EXTRACTIVE_MODEL, Settings
from app.core.errors import BotNotFound
from app.core.principal import Principal
from app.rag.llms import ChatModel
from app.services.runtime import Runtime


async def resolve(runtime: Runtime, principal: Principal, bot_id: str) -> Bot:
    """The bot that the caller may use under this id. Raises BotNotFound."""
    if bot_id != DEFAULT_BOT:
        raise BotNotFound
    return runtime.default_bot


def chat_model(runtime: Runtime, bot: Bot) -> ChatModel | None:
    """The model that answers for a bot; None where the sources' own sentences do."""
    return None if bot.answers_extractively else runtime.chat_model


def of_environment(settings: Settings) -> Bot:
    """The bot that every organization has without making one."""
    model = ModelSettings(
        provider=Provider.EXTRACTIVE if settings.answers_extractively else Provider.OPENAI,
        model=EXTRACTIVE_MODEL if settings.answers_extractively else settings.chat_model,
        temperature=settings.chat_temperature,
        max_answer_tokens=settings.chat_max_answer_tokens,
    )
    return Bot(
        id=DEFAULT_BOT,
        version_id=None,
        name="Default",
        model=model,
        persona=settings.chat_persona,
        guardrails=Guardrails(
            refusal_text=settings.chat_refusal_text,
            pii=settings.chat_pii,
            unsupported_citations=settings.chat_unsupported_citations,
        ),
        retrieval=RetrievalSettings(top_k=settings.top_k_default),
    )
