"""Sessions and messages of one owner, as they are read."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import clock
from app.db.models import Message, MessageStatus, Session
from app.db.repositories.base import Repository

_RETIRE: Final = text("""
WITH unused AS (
  SELECT organization_id, id FROM sessions WHERE updated_at < now() - make_interval(days => :days)
   LIMIT :limit FOR UPDATE SKIP LOCKED
)
DELETE FROM sessions s USING unused u WHERE s.organization_id = u.organization_id AND s.id = u.id RETURNING s.id
""")


class ConversationRepository(Repository):
    async def find_session(self, session_id: str) -> Session | None:
        result: Session | None = await self.session.scalar(
            select(Session).where(
                Session.organization_id == self.organization_id,
                Session.id == session_id,
                Session.owner_id == self.principal.id,
            )
        )
        return result

    async def messages(
        self,
        session_id: str,
        *,
        limit: int,
        offset: int,
        after: int | None = None,
        all_branches: bool = False,
    ) -> Sequence[Message]:
        """In their order, after the one at the position `after`; of the active branch, or of all."""
        query = select(Message).where(
            Message.organization_id == self.organization_id, Message.session_id == session_id
        )
        if after is not None:
            query = query.where(Message.position > after)
        if not all_branches:
            query = query.where(Message.active)
        return (
            await self.session.scalars(query.order_by(Message.position).limit(limit).offset(offset))
        ).all()


async def interrupt_abandoned_answers(session: AsyncSession, *, older_than: timedelta) -> int:
    """Mark as interrupted what a process that died left streaming, in all organizations; returns how many."""
    result = await session.execute(
        update(Message)
        .where(Message.status == MessageStatus.STREAMING, Message.updated_at < clock.now() - older_than)
        .values(status=MessageStatus.INTERRUPTED, finish_reason="interrupted", updated_at=func.now())
        .returning(Message.id)
    )
    return len(result.all())


async def retire_sessions(session: AsyncSession, *, days: int, limit: int) -> int:
    """Delete some sessions that were not used for so many days, in all organizations; returns how many."""
    return len((await session.execute(_RETIRE, {"days": days, "limit": limit})).all())
