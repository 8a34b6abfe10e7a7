"""A person's conversations: found again, renamed, pinned, judged, deleted. They are their owner's, and nobody else's."""

import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from app.core import clock, cursor
from app.core.errors import AnswerNotFound, InvalidCursor, SessionNotFound
from app.core.principal import SYSTEM, Principal
from app.db import queue
from app.db.engine import Transaction
from app.db.models import Message
from app.db.repositories.conversations import ConversationRepository, retire_sessions
from app.db.repositories.sessions import Details, Listed, Place, SessionRepository
from app.services import files, relay
from app.services.runtime import Runtime

_EXAMINED_AT_ONCE: Final = 100
_MOST_EXAMINED: Final = 5_000
_MESSAGES_OF_EACH: Final = 400
_SEARCH_SECONDS: Final = 1.0
"""Then the page ends where it is, and its link goes on from there."""

_MOST_WORDS: Final = 10
_RETIRED_AT_ONCE: Final = 100


class Rating(StrEnum):
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Page:
    """Some sessions; `after` and `offset` are where the next page begins, `after` None at the end."""

    sessions: Sequence[Listed]
    after: str | None
    offset: int = 0


async def newest(
    session: Transaction, principal: Principal, *, limit: int, after: str | None, offset: int
) -> Page:
    """The caller's sessions, pinned ones first, then the last active ones. Raises InvalidCursor."""
    place = _place(after) if after else None
    found = await SessionRepository(session, principal).page(limit=limit + 1, after=place, offset=offset)
    page = found[:limit]
    return Page(page, _cursor(page[-1]) if len(found) > limit else None)


async def search(
    session: Transaction, principal: Principal, wanted: str, *, limit: int, after: str | None, offset: int
) -> Page:
    """The caller's sessions in whose title, or in one message of which, all words of `wanted` stand.

    In the order of the list. A page may hold fewer than there are, even none, and yet not be the last: a second of looking
    ends it, and the next one goes on from there. Raises InvalidCursor.
    """
    words = unicodedata.normalize("NFC", wanted).split()[:_MOST_WORDS]
    if not words:
        return await newest(session, principal, limit=limit, after=after, offset=offset)
    sessions = SessionRepository(session, principal)
    place = _place(after) if after else None
    found: list[Listed] = []
    deadline = time.monotonic() + _SEARCH_SECONDS
    for _ in range(_MOST_EXAMINED // _EXAMINED_AT_ONCE):
        examined = await sessions.examine(
            words, limit=_EXAMINED_AT_ONCE, after=place, messages=_MESSAGES_OF_EACH
        )
        for listed in examined:
            place = listed.place
            if listed.match is None:
                continue
            if offset:
                offset -= 1
                continue
            found.append(listed)
            if len(found) == limit:
                return Page(found, _cursor(listed))
        if len(examined) < _EXAMINED_AT_ONCE:
            return Page(found, None)
        if time.monotonic() >= deadline:
            break
    return Page(found, None if place is None else _cursor_of(place), offset)


async def get(session: Transaction, principal: Principal, session_id: str) -> Details:
    """Raises SessionNotFound."""
    found = await SessionRepository(session, principal).find(session_id)
    if found is None:
        raise SessionNotFound
    return found


async def change(
    session: Transaction, principal: Principal, session_id: str, *, title: str | None, pinned: bool | None
) -> Details:
    """Rename and pin; None leaves as it is. Raises SessionNotFound."""
    if not await SessionRepository(session, principal).change(session_id, title=title, pinned=pinned):
        raise SessionNotFound
    return await get(session, principal, session_id)


async def delete(runtime: Runtime, principal: Principal, session_id: str) -> None:
    """Delete the session with its messages, links and files; when this returns, nothing of it can be found.

    An answer that is being given, in whichever process, is stopped. Raises SessionNotFound.
    """
    async with runtime.database.unit_of_work(principal) as session:
        deleted = await SessionRepository(session, principal).delete(session_id, channel=queue.DOCUMENTS)
        if deleted is None:
            raise SessionNotFound
        for message_id in deleted.streaming_ids:
            await relay.request_stop(session, message_id)
    if deleted.storage_keys:
        await files.purge(runtime, deleted.storage_keys)


async def said(
    session: Transaction, principal: Principal, session_id: str, *, limit: int, after: int | None = None
) -> tuple[Sequence[Message], int | None]:
    """Some messages of a session as it is shown, after a position; and where the next ones begin (None at the end).

    Raises SessionNotFound.
    """
    conversations = ConversationRepository(session, principal)
    if await conversations.find_session(session_id) is None:
        raise SessionNotFound
    found = await conversations.messages(session_id, limit=limit + 1, offset=0, after=after)
    page = found[:limit]
    return page, page[-1].position if len(found) > limit else None


async def judge(
    session: Transaction, principal: Principal, message_id: str, rating: Rating | None, comment: str | None
) -> dict[str, Any] | None:
    """Say, or (None) take back, what the caller thinks of an answer in a session of theirs. Raises AnswerNotFound."""
    feedback = None
    if rating is not None:
        feedback = {"rating": rating, "comment": comment, "created_at": clock.now().isoformat()}
    if not await SessionRepository(session, principal).judge(message_id, feedback):
        raise AnswerNotFound
    return feedback


async def retire(runtime: Runtime) -> int:
    """Delete the sessions that nobody has used for as long as SESSION_RETENTION_DAYS says; returns how many."""
    days = runtime.settings.session_retention_days
    retired = 0
    while days:
        async with runtime.database.unit_of_work(SYSTEM) as session:
            gone = await retire_sessions(session, days=days, limit=_RETIRED_AT_ONCE)
        retired += gone
        if gone < _RETIRED_AT_ONCE:
            break
    return retired


def _cursor(listed: Listed) -> str:
    return _cursor_of(listed.place)


def _cursor_of(place: Place) -> str:
    pinned, moment, session_id = place
    return cursor.encode(moment, f"{int(pinned)}{session_id}")


def _place(after: str) -> Place:
    moment, row = cursor.decode(after)
    if row[:1] not in ("0", "1"):
        raise InvalidCursor
    return row[0] == "1", moment, row[1:]
