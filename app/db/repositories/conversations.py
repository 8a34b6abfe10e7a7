"""Sessions and messages of one owner."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import clock
from app.db.models import Message, MessageStatus, Session
from app.db.repositories.base import Repository

_OPEN_SESSION: Final = text("""
INSERT INTO sessions (organization_id, id, owner_id, title) VALUES (:organization_id, :id, :owner_id, :title)
ON CONFLICT (organization_id, id) DO UPDATE SET updated_at = now()
RETURNING owner_id
""")
"""Also the lock of a turn: the row stays locked until the turn's messages are committed."""

_ADD_TURN: Final = text("""
INSERT INTO messages (id, organization_id, session_id, role, content, status, model)
VALUES (:user_message_id, :organization_id, :session_id, 'user', :question, 'complete', NULL),
       (:answer_id, :organization_id, :session_id, 'assistant', '', 'streaming', :model)
""")


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """One earlier message."""

    role: str
    content: str
    status: str
    updated_at: datetime


class ConversationRepository(Repository):
    async def open_session(self, session_id: str, *, title: str) -> bool:
        """Make the session or take the one that is there, locked to the transaction's end; False when not the caller's."""
        owner_id = await self.session.scalar(
            _OPEN_SESSION,
            {
                "organization_id": self.organization_id,
                "id": session_id,
                "owner_id": self.principal.id,
                "title": title,
            },
        )
        return bool(owner_id == self.principal.id)

    async def recent(self, session_id: str, *, limit: int) -> list[StoredTurn]:
        """The last messages, oldest first, whatever their status."""
        rows = await self.session.execute(
            select(Message.role, Message.content, Message.status, Message.updated_at)
            .where(Message.organization_id == self.organization_id, Message.session_id == session_id)
            .order_by(Message.position.desc())
            .limit(limit)
        )
        return [StoredTurn(*row) for row in reversed(rows.all())]

    async def add_turn(
        self, session_id: str, *, user_message_id: str, answer_id: str, question: str, model: str
    ) -> None:
        """The question, and the row of the answer that is about to be streamed."""
        await self.session.execute(
            _ADD_TURN,
            {
                "organization_id": self.organization_id,
                "session_id": session_id,
                "user_message_id": user_message_id,
                "answer_id": answer_id,
                "question": question,
                "model": model,
            },
        )

    async def finish_answer(self, answer_id: str, values: dict[str, Any]) -> None:
        """Write what became of an answer, unless it was finished already (or its session deleted)."""
        await self.session.execute(
            update(Message)
            .where(
                Message.organization_id == self.organization_id,
                Message.id == answer_id,
                Message.status == MessageStatus.STREAMING,
            )
            .values(updated_at=func.now(), **values)
        )

    async def find_session(self, session_id: str) -> Session | None:
        result: Session | None = await self.session.scalar(
            select(Session).where(
                Session.organization_id == self.organization_id,
                Session.id == session_id,
                Session.owner_id == self.principal.id,
            )
        )
        return result

    async def messages(self, session_id: str, *, limit: int, offset: int) -> Sequence[Message]:
        return (
            await self.session.scalars(
                select(Message)
                .where(Message.organization_id == self.organization_id, Message.session_id == session_id)
                .order_by(Message.position)
                .limit(limit)
                .offset(offset)
            )
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
