"""Bots as admins make and change them: every change of what they answer with is a new version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.core import bot_settings, cursor, ids
from app.core.bot_settings import Place
from app.core.bots import BotSettings
from app.core.errors import (
    BotChanged,
    BotNotFound,
    BotOutdated,
    BotVersionNotFound,
    CollectionNotFound,
    KeyIsRestricted,
)
from app.core.principal import Principal
from app.db.engine import Transaction
from app.db.models import Bot, BotVersion
from app.db.repositories.bots import BotListRepository, BotRepository, BotVersionRepository
from app.services import access, bot_rules
from app.services.bot_rules import Version
from app.services.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Described:
    """A bot with what answers for it at present. `collection_ids` None are those that the caller may see."""

    bot: Bot
    version: BotVersion
    collection_ids: tuple[str, ...] | None

    @property
    def content(self) -> Version:
        return content_of(self.version)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made or changed; what is left out stays.

    `columns` are name, description and visibility, `settings` the JSON of the settings that are given, to be laid over
    those before. `collection_ids` counts with `sets_collections`. `keys` are in plain text, None removes one.
    """

    columns: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[Place, str | None] = field(default_factory=dict, repr=False)
    sets_collections: bool = False
    collection_ids: frozenset[str] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """Which revision the caller knows: from the body, or from the header If-Match."""

    revision: int | None = None
    matching: frozenset[int] | None = None

    def require(self, bot: Bot) -> None:
        """Raises BotChanged or BotOutdated when somebody has changed the bot since."""
        details = {"revision": bot.revision}
        if self.revision is not None and self.revision != bot.revision:
            raise BotChanged(details=details)
        if self.matching is not None and bot.revision not in self.matching:
            raise BotOutdated(details=details)


ANY_REVISION = Expected()


def content_of(version: BotVersion) -> Version:
    keys = bot_settings.keys_from_json(version.secrets)
    return Version(bot_settings.from_json(version.settings, keys), keys)


async def newest(
    session: Transaction, principal: Principal, *, limit: int, after: str | None, offset: int
) -> tuple[list[Described], str | None]:
    """A page of the bots that the caller may use, newest first, and the cursor of the next one. Raises InvalidCursor."""
    if principal.bot_id is not None:
        own = await _described(session, principal, [await usable(session, principal, principal.bot_id)])
        return ([] if after or offset else own), None
    found = await BotRepository(session, principal).newest(
        limit=limit + 1,
        after=cursor.decode(after) if after else None,
        offset=offset,
        user_id=access.restricted_user_id(principal),
    )
    page = found[:limit]
    following = cursor.encode(page[-1].created_at, page[-1].id) if len(found) > limit else None
    return await _described(session, principal, page), following


async def get(session: Transaction, principal: Principal, bot_id: str) -> Described:
    """A bot that the caller may use. Raises BotNotFound."""
    (found,) = await _described(session, principal, [await usable(session, principal, bot_id)])
    return found


async def create(runtime: Runtime, session: Transaction, principal: Principal, wanted: Wanted) -> Described:
    """A bot with its first version.

    Raises AdminsOnly, KeyIsRestricted for a key that is restricted to collections, BotNameTaken, CollectionNotFound,
    InvalidBot and UnsafeUrl.
    """
    _require_manager(principal)
    settings = bot_settings.from_json(wanted.settings, {})
    content = _checked(runtime, principal, settings, wanted.keys, before=None)
    _require_shareable(wanted)
    bots = BotRepository(session, principal)
    made = await bots.add({**wanted.columns, "all_collections": wanted.collection_ids is None})
    await BotListRepository(session, principal).set_collections(made.id, wanted.collection_ids or ())
    await _add_version(session, principal, made.id, 1, content, wanted.note)
    return await get(session, principal, made.id)


async def change(
    runtime: Runtime,
    session: Transaction,
    principal: Principal,
    bot_id: str,
    wanted: Wanted,
    expected: Expected = ANY_REVISION,
) -> Described:
    """Lay what is given over what is there.

    Raises BotNotFound, BotChanged, BotOutdated and what `create` raises.
    """
    now = await managed(session, principal, bot_id, expected)
    before = now.content
    laid = _laid_over(bot_settings.to_json(before.settings), wanted.settings)
    if laid["model"]["provider"] != before.settings.model.provider:
        laid["model"]["base_url"] = wanted.settings["model"].get(
            "base_url"
        )  # the address was the other one's
    settings = bot_settings.from_json(laid, before.keys)
    content = _checked(runtime, principal, settings, wanted.keys, before=before)
    _require_shareable(wanted)
    columns = dict(wanted.columns)
    if wanted.sets_collections:
        columns["all_collections"] = wanted.collection_ids is None
        await BotListRepository(session, principal).set_collections(bot_id, wanted.collection_ids or ())
    return await _changed(session, principal, now, content, columns, wanted.note)


async def restore(
    session: Transaction,
    principal: Principal,
    bot_id: str,
    number: int,
    expected: Expected = ANY_REVISION,
) -> Described:
    """Make a new version equal to an old one.

    A key is taken from the present version where the address is the same: the old one may have been replaced for a reason.
    Raises AdminsOnly, BotNotFound, BotVersionNotFound, BotChanged and BotOutdated.
    """
    now = await managed(session, principal, bot_id, expected)
    old = content_of(await _version(session, principal, bot_id, number))
    keys = {**old.keys, **bot_rules.kept_keys(now.content, old.settings)}
    content = Version(bot_settings.with_keys(old.settings, keys), keys)
    return await _changed(session, principal, now, content, {}, f"Back to version {number}")


async def delete(
    session: Transaction, principal: Principal, bot_id: str, expected: Expected = ANY_REVISION
) -> None:
    """Delete a bot with its versions, its lists and the API keys that are bound to it; conversations stay.

    Raises AdminsOnly, BotNotFound, BotChanged and BotOutdated.
    """
    await managed(session, principal, bot_id, expected)
    await BotRepository(session, principal).delete(bot_id)


async def versions(
    session: Transaction, principal: Principal, bot_id: str, *, limit: int, offset: int
) -> tuple[Sequence[BotVersion], bool]:
    """A page of a bot's versions, newest first, and whether there are more. Raises AdminsOnly and BotNotFound."""
    access.require_admin(principal)
    await usable(session, principal, bot_id)
    found = await BotVersionRepository(session, principal).newest(bot_id, limit=limit + 1, offset=offset)
    return found[:limit], len(found) > limit


async def version(session: Transaction, principal: Principal, bot_id: str, number: int) -> BotVersion:
    """Raises AdminsOnly, BotNotFound and BotVersionNotFound."""
    access.require_admin(principal)
    await usable(session, principal, bot_id)
    return await _version(session, principal, bot_id, number)


def _require_manager(principal: Principal) -> None:
    access.require_admin(principal)
    if principal.collection_ids is not None:
        raise KeyIsRestricted("This API key is restricted to certain collections and can't change bots.")


def _require_shareable(wanted: Wanted) -> None:
    """The files of a session are its owner's alone. Raises CollectionNotFound."""
    if any(ids.is_of_session(collection_id) for collection_id in wanted.collection_ids or ()):
        raise CollectionNotFound


async def usable(session: Transaction, principal: Principal, bot_id: str, *, lock: bool = False) -> Bot:
    """A bot that the caller may use. Raises BotNotFound."""
    user_id = access.restricted_user_id(principal)
    found = None
    if principal.bot_id in (None, bot_id):
        found = await BotRepository(session, principal).find(bot_id, user_id=user_id, lock=lock)
    if found is None:
        raise BotNotFound
    return found


async def managed(session: Transaction, principal: Principal, bot_id: str, expected: Expected) -> Described:
    """A bot that the caller manages, held as it is until the transaction ends. Raises AdminsOnly, KeyIsRestricted and BotNotFound."""
    _require_manager(principal)
    bot = await usable(session, principal, bot_id, lock=True)
    expected.require(bot)
    (found,) = await _described(session, principal, [bot])
    return found


async def _described(session: Transaction, principal: Principal, bots: Sequence[Bot]) -> list[Described]:
    bot_ids = [bot.id for bot in bots]
    in_use = await BotVersionRepository(session, principal).in_use(bot_ids)
    lists = await BotListRepository(session, principal).collections(bot_ids)
    return [
        Described(bot, in_use[bot.id], None if bot.all_collections else tuple(lists.get(bot.id, ())))
        for bot in bots
    ]


async def _version(session: Transaction, principal: Principal, bot_id: str, number: int) -> BotVersion:
    found = await BotVersionRepository(session, principal).find(bot_id, number)
    if found is None:
        raise BotVersionNotFound
    return found


def _checked(
    runtime: Runtime,
    principal: Principal,
    wanted: BotSettings,
    keys: Mapping[Place, str | None],
    *,
    before: Version | None,
) -> Version:
    settings = bot_rules.checked(runtime.settings, principal, wanted, before=before)
    stored = bot_rules.keys_of(runtime.keyring, settings, keys, before=before)
    bot_rules.require_keys(runtime.settings, settings, stored)
    return Version(bot_settings.with_keys(settings, stored), stored)


async def _changed(
    session: Transaction,
    principal: Principal,
    now: Described,
    content: Version,
    columns: Mapping[str, Any],
    note: str,
) -> Described:
    """Store what differs: a version where the settings or a key do."""
    number = now.bot.version
    values = dict(columns)
    if content != now.content:
        values["version"] = number + 1
        await _add_version(session, principal, now.bot.id, number + 1, content, note)
    if await BotRepository(session, principal).change(now.bot.id, values) is None:
        raise BotNotFound
    return await get(session, principal, now.bot.id)


async def _add_version(
    session: Transaction, principal: Principal, bot_id: str, number: int, content: Version, note: str
) -> None:
    await BotVersionRepository(session, principal).add(
        bot_id,
        number,
        settings=bot_settings.to_json(content.settings),
        secrets=bot_settings.keys_to_json(content.keys),
        note=note,
    )


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """What is given takes the place of what was there; lists are taken whole."""
    laid = dict(below)
    for name, value in above.items():
        was = laid.get(name)
        laid[name] = _laid_over(was, value) if isinstance(was, dict) and isinstance(value, dict) else value
    return laid
