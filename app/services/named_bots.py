"""Bots by the names under which clients of another API ask for them: `ibid` for the default one, an id, or the bot's own name."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from app.core.bots import DEFAULT_BOT
from app.core.errors import BotNotFound
from app.core.principal import Principal
from app.services import bot_care, bots
from app.services.runtime import Runtime

DEFAULT_NAME: Final = "ibid"
_MOST_BOTS: Final = 200
_ID_PREFIX: Final = "bot_"


@dataclass(frozen=True, slots=True)
class NamedBot:
    id: str
    """As a request may name it."""
    name: str
    created_at: datetime | None
    organization_id: str | None
    """None: the environment's bot, which every organization has."""


async def newest(runtime: Runtime, principal: Principal) -> list[NamedBot]:
    """The bots that the caller may ask, the default one first; at most 200. A key that is bound to one sees that."""
    own = await _own(runtime, principal)
    if principal.bot_id is not None:
        return own
    return [NamedBot(DEFAULT_NAME, runtime.default_bot.name, None, None), *own]


async def find(runtime: Runtime, principal: Principal, name: str) -> NamedBot:
    """Raises BotNotFound."""
    found = await newest(runtime, principal)
    if name in (DEFAULT_NAME, DEFAULT_BOT):
        return found[0]
    for bot in found:
        if name == bot.id or name.casefold() == bot.name.casefold():
            return bot
    bot_id = await id_of(runtime, principal, name)  # beyond those that are listed
    answering = await bots.resolve(runtime, principal, bot_id)
    return NamedBot(answering.id, answering.name, None, principal.organization)


async def id_of(runtime: Runtime, principal: Principal, name: str) -> str | None:
    """What `Question.bot_id` is for this name. An id is taken as it is, and looked up when it is asked.

    Raises BotNotFound.
    """
    if name == DEFAULT_NAME:
        return None
    if name == DEFAULT_BOT or name.startswith(_ID_PREFIX):
        return name
    for bot in await _own(runtime, principal):
        if bot.name.casefold() == name.casefold():
            return bot.id
    raise BotNotFound


async def _own(runtime: Runtime, principal: Principal) -> list[NamedBot]:
    async with runtime.database.unit_of_work(principal) as session:
        page, _ = await bot_care.newest(session, principal, limit=_MOST_BOTS, after=None, offset=0)
    return [
        NamedBot(found.bot.id, found.bot.name, found.bot.created_at, found.bot.organization_id)
        for found in page
    ]
