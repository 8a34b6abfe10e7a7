"""A whole conversation, read piece by piece: no connection is held while a slow reader takes it, and little memory."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from app.core.errors import SessionNotFound
from app.core.principal import Principal
from app.db.models import Message
from app.db.repositories.sessions import Details
from app.services import sessions
from app.services.runtime import Runtime

_MESSAGES_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Export:
    """The session and its messages as they were when the export began; `pieces` can be read once."""

    session: Details
    pieces: AsyncIterator[Sequence[Message]]


async def begin(runtime: Runtime, principal: Principal, session_id: str) -> Export:
    """Raises SessionNotFound. A session that is deleted while it is read ends in the same, so that nothing looks whole."""
    async with runtime.database.unit_of_work(principal) as session:
        details = await sessions.get(session, principal, session_id)
    return Export(details, _pieces(runtime, principal, details))


async def _pieces(
    runtime: Runtime, principal: Principal, details: Details
) -> AsyncIterator[Sequence[Message]]:
    after: int | None = None
    left = details.messages
    while left > 0:
        async with runtime.database.unit_of_work(principal) as session:
            piece, after = await sessions.said(
                session, principal, details.id, limit=min(_MESSAGES_AT_ONCE, left), after=after
            )
        if not piece:
            raise SessionNotFound
        yield piece
        left -= len(piece)
        if after is None:
            return
