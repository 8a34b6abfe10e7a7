"""Conversations shared by a link that opens without an account.

A link shows a copy of what the conversation was when the link was made: nothing that is asked later gets out by it, and
nothing in it is a key to anything (no id of a document, a session or a person).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from app.core import clock, security
from app.core.errors import (
    ExpiryInThePast,
    NothingToShare,
    SessionNotFound,
    ShareNotFound,
    SharingDisabled,
    TooLargeToShare,
    TooManyShares,
)
from app.core.principal import SYSTEM, Principal
from app.db.engine import Transaction
from app.db.models import Message, MessageStatus
from app.db.repositories import shares
from app.db.repositories.shares import Share, Shared, ShareRepository
from app.services import sessions
from app.services.runtime import Runtime

_MOST_SHARES: Final = 20
_MOST_MESSAGES: Final = 500
_MOST_CHARACTERS: Final = 2_000_000
_OF_A_SOURCE: Final = ("n", "title", "page", "snippet", "cited")


@dataclass(frozen=True, slots=True)
class NewShare:
    """A link with its token, which exists only now; `url` is None where the service does not know its own address."""

    share: Share
    token: str = ""
    url: str | None = None


async def create(
    runtime: Runtime, session: Transaction, principal: Principal, session_id: str, expires_at: datetime | None
) -> NewShare:
    """Share the session as it is now.

    Raises SharingDisabled, SessionNotFound, ExpiryInThePast, NothingToShare, TooLargeToShare and TooManyShares.
    """
    if not runtime.settings.share_links:
        raise SharingDisabled
    if expires_at is not None and expires_at <= clock.now():
        raise ExpiryInThePast
    details = await sessions.get(session, principal, session_id)
    found, following = await sessions.said(session, principal, session_id, limit=_MOST_MESSAGES)
    copied = _copied(found)
    if not any(message["role"] == "assistant" for message in copied):
        raise NothingToShare
    if following or sum(len(message["content"]) for message in copied) > _MOST_CHARACTERS:
        raise TooLargeToShare(details={"messages": _MOST_MESSAGES, "characters": _MOST_CHARACTERS})
    repository = ShareRepository(session, principal)
    if await repository.count(session_id) >= _MOST_SHARES:
        raise TooManyShares(details={"limit": _MOST_SHARES})
    token = security.new_token()
    share = await repository.add(
        session_id,
        token_hash=security.token_hash(token),
        title=details.title,
        messages=copied,
        expires_at=expires_at,
    )
    if share is None:
        raise SessionNotFound
    base = runtime.settings.public_url
    return NewShare(share, token, f"{base.rstrip('/')}/shared/{token}" if base else None)


async def newest(
    session: Transaction, principal: Principal, session_id: str, *, limit: int, offset: int
) -> tuple[Sequence[Share], bool]:
    """The links to a session that open, newest first, and whether there are more. Raises SessionNotFound."""
    await sessions.get(session, principal, session_id)
    found = await ShareRepository(session, principal).newest(session_id, limit=limit + 1, offset=offset)
    return found[:limit], len(found) > limit


async def revoke(session: Transaction, principal: Principal, session_id: str, share_id: str | None) -> None:
    """Close one link to a session, or (None) all of them. Raises SessionNotFound and ShareNotFound."""
    await sessions.get(session, principal, session_id)
    revoked = await ShareRepository(session, principal).revoke(session_id, share_id)
    if share_id is not None and not revoked:
        raise ShareNotFound


async def open_shared(runtime: Runtime, token: str) -> Shared:
    """What a link shows, to anybody. Raises ShareNotFound."""
    if not runtime.settings.share_links:
        raise ShareNotFound
    async with runtime.database.unit_of_work(SYSTEM) as session:
        found = await shares.open_share(session, security.token_hash(token))
    if found is None:
        raise ShareNotFound
    return found


async def purge(runtime: Runtime) -> None:
    """Forget the links that have expired."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        await shares.purge_shares(session)


def _copied(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """What there is to see: without answers that are not there (yet), and the questions before them."""
    copied: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "assistant" and (message.status == MessageStatus.STREAMING or not message.content):
            if copied and copied[-1]["role"] == "user":
                copied.pop()
            continue
        if message.role != "system":
            copied.append(_copy(message))
    return copied


def _copy(message: Message) -> dict[str, Any]:
    sources: Sequence[Mapping[str, Any]] = message.sources
    return {
        "role": message.role,
        "content": message.content,
        "complete": message.status == MessageStatus.COMPLETE,
        "refused": message.refused,
        "created_at": message.created_at.isoformat(),
        "sources": [{name: source[name] for name in _OF_A_SOURCE} for source in sources],
    }
