"""Bots: which one answers a question, and with which model."""

from dataclasses import fields

from app.core import bot_settings
from app.core.bots import (
    DEFAULT_BOT,
    Bot,
    BotSettings,
    Guardrails,
    ModelSettings,
    Provider,
    RetrievalSettings,
)
from app.core.config import EXTRACTIVE_MODEL, Settings
from app.core.errors import BotNotFound
from app.core.principal import Principal
from app.db.engine import AnyTransaction
from app.db.repositories.bots import BotUseRepository
from app.rag.llms import ChatModel
from app.services import access
from app.services.runtime import Runtime

_SETTINGS = tuple(field.name for field in fields(BotSettings))


async def resolve(runtime: Runtime, principal: Principal, bot_id: str | None) -> Bot:
    """The bot that the caller may use under this id; None is that of an API key bound to one, else the environment's.

    One statement, which says too what the caller may do at this moment; none for the environment's bot. Raises
    BotNotFound.
    """
    if principal.bot_id is not None:
        if bot_id not in (None, principal.bot_id):
            raise BotNotFound
        bot_id = principal.bot_id
    if bot_id is None or bot_id == DEFAULT_BOT:
        return runtime.default_bot
    async with runtime.database.single(principal) as session:
        return await find(runtime, session, principal, bot_id)


async def find(runtime: Runtime, session: AnyTransaction, principal: Principal, bot_id: str) -> Bot:
    """The same for the id of a bot of the organization, in a transaction that is open already. Raises BotNotFound."""
    organization_id = principal.organization
    known = runtime.bot_models.known(organization_id, bot_id)
    found = await BotUseRepository(session, principal).in_use(
        bot_id, user_id=access.restricted_user_id(principal), known=known[0] if known else None
    )
    if found is None:
        raise BotNotFound
    if found.settings is not None and found.secrets is not None:
        settings = bot_settings.from_json(found.settings, bot_settings.keys_from_json(found.secrets))
        runtime.bot_models.remember(organization_id, bot_id, found.version_id, settings)
    else:
        assert known is not None
        settings = known[1]
    return Bot(
        id=bot_id,
        version_id=found.version_id,
        name=found.name,
        collection_ids=found.collection_ids,
        **{name: getattr(settings, name) for name in _SETTINGS},
    )


def chat_model(runtime: Runtime, bot: Bot) -> ChatModel | None:
    """The model that answers for a bot; None where the sources' own sentences do.

    Raises BotWithoutKey and SecretUnreadable.
    """
    if bot.answers_extractively:
        return None
    return runtime.chat_model if bot.version_id is None else runtime.bot_models.of(bot.model)


def of_environment(settings: Settings) -> Bot:
    """The bot that every organization has without making one."""
    model = ModelSettings(
        provider=Provider.EXTRACTIVE if settings.answers_extractively else Provider.OPENAI,
        model=EXTRACTIVE_MODEL if settings.answers_extractively else settings.chat_model,
        temperature=settings.chat_temperature,
        max_answer_tokens=settings.chat_max_answer_tokens,
        fallback_model=settings.chat_fallback_model,
        extractive_fallback=settings.chat_fallback_extractive,
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
