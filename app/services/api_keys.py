"""API keys: made once, shown once, listed by their prefix, revoked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.core import clock, cursor, security
from app.core.errors import (
    ApiKeyNotFound,
    BeyondOwnRights,
    BotNotFound,
    BoundKeyChatsOnly,
    CollectionNotFound,
    ExpiryInThePast,
)
from app.core.principal import SYSTEM, Principal, PrincipalKind, Scope
from app.db.engine import Transaction
from app.db.models import ApiKey
from app.db.repositories.api_keys import ApiKeyRepository
from app.db.repositories.bots import BotRepository
from app.db.repositories.visibility import VisibilityRepository
from app.services.runtime import Runtime


@dataclass(frozen=True, slots=True)
class NewKey:
    """What is wanted of a key. `collection_ids` None does not restrict it; `expires_at` None is never.

    `bot_id` is the only bot that it may talk to, and then it may do nothing else.
    """

    name: str
    scopes: frozenset[Scope]
    collection_ids: frozenset[str] | None
    expires_at: datetime | None
    rate_limit: str | None = None
    bot_id: str | None = None


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A fresh key; `secret` is shown once and never again."""

    row: ApiKey
    secret: str = field(repr=False)


async def create(runtime: Runtime, principal: Principal, wanted: NewKey) -> MadeKey:
    """A key of the caller's organization.

    Raises BeyondOwnRights, CollectionNotFound, BotNotFound, ExpiryInThePast, or BoundKeyChatsOnly for one that is bound to
    a bot and should have other scopes.
    """
    _require_rights(principal, wanted)
    if wanted.bot_id is not None and wanted.scopes != {Scope.CHAT}:
        raise BoundKeyChatsOnly
    if wanted.expires_at is not None and wanted.expires_at <= clock.now():
        raise ExpiryInThePast
    key = security.new_api_key()
    async with runtime.database.unit_of_work(SYSTEM) as session:
        if wanted.collection_ids is not None:
            missing = await VisibilityRepository(session, principal).missing(wanted.collection_ids)
            if missing:
                raise CollectionNotFound(details={"collection_ids": sorted(missing)})
        if wanted.bot_id is not None and await BotRepository(session, principal).find(wanted.bot_id) is None:
            raise BotNotFound
        row = await ApiKeyRepository(session, principal).add(
            name=wanted.name,
            public_part=key.public,
            secret_hash=key.secret_hash,
            scopes=wanted.scopes,
            collection_ids=wanted.collection_ids,
            expires_at=wanted.expires_at,
            created_by=await _maker(session, principal),
            rate_limit=wanted.rate_limit,
            bot_id=wanted.bot_id,
        )
    return MadeKey(row, str(key))


async def newest(
    runtime: Runtime, principal: Principal, *, limit: int, after: str | None, offset: int
) -> tuple[Sequence[ApiKey], str | None]:
    """A page of keys, newest first, and the cursor of the next one. Raises InvalidCursor."""
    position = cursor.decode(after) if after else None
    async with runtime.database.unit_of_work(SYSTEM) as session:
        rows = await ApiKeyRepository(session, principal).newest(
            limit=limit + 1, after=position, offset=offset
        )
    following = cursor.encode(rows[limit - 1].created_at, rows[limit - 1].id) if len(rows) > limit else None
    return rows[:limit], following


async def get(runtime: Runtime, principal: Principal, key_id: str) -> ApiKey:
    """A key of the organization. Raises ApiKeyNotFound."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        key = await ApiKeyRepository(session, principal).find(key_id)
    if key is None:
        raise ApiKeyNotFound
    return key


async def revoke(runtime: Runtime, principal: Principal, key_id: str) -> None:
    """Make a key worthless from its next use on; it stays in the list. Raises ApiKeyNotFound."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        if not await ApiKeyRepository(session, principal).revoke(key_id):
            raise ApiKeyNotFound


async def _maker(session: Transaction, principal: Principal) -> str | None:
    """The user behind it: a key that is made with a key goes when its maker's keys go."""
    if principal.kind is PrincipalKind.USER:
        return principal.id
    key = await ApiKeyRepository(session, principal).find(principal.id)
    return None if key is None else key.created_by


def _require_rights(principal: Principal, wanted: NewKey) -> None:
    """A key can make others, but none that may do or see more than itself."""
    if not wanted.scopes <= principal.scopes:
        raise BeyondOwnRights(details={"granted": sorted(principal.scopes)})
    allowed = principal.collection_ids
    if allowed is not None and (wanted.collection_ids is None or not wanted.collection_ids <= allowed):
        raise BeyondOwnRights
