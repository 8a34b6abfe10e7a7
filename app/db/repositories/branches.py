"""Branches of a conversation: an answer that is given again, a question that is asked otherwise.

Until a session first branches its messages follow each other and have no `parent_id`; that is written then, and again with
each later branch for what was said since. So an ordinary turn pays nothing for branches that hardly any session has.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.core.errors import SessionBusy
from app.db.repositories.base import TextRepository
from app.db.repositories.turns import StoredTurn

_FIND: Final = text("""
SELECT m.session_id, m.role, m.content
  FROM messages m JOIN sessions s ON s.organization_id = m.organization_id AND s.id = m.session_id
 WHERE m.organization_id = :organization_id AND m.id = :message_id AND s.owner_id = :owner_id
   FOR UPDATE OF s
""")
_NAME_PARENTS: Final = text("""
UPDATE messages m SET parent_id = coalesce(path.before, '')
  FROM (SELECT id, lag(id) OVER (ORDER BY position) AS before FROM messages
         WHERE organization_id = :organization_id AND session_id = :session_id AND active) AS path
 WHERE m.organization_id = :organization_id AND m.id = path.id AND m.parent_id IS NULL
""")
_PARENT: Final = text("""
SELECT m.parent_id, p.content, p.position
  FROM messages m LEFT JOIN messages p ON p.organization_id = m.organization_id AND p.id = m.parent_id
 WHERE m.organization_id = :organization_id AND m.id = :message_id
""")
_IS_STREAMING: Final = text("""
SELECT EXISTS (SELECT 1 FROM messages
                WHERE organization_id = :organization_id AND session_id = :session_id AND status = 'streaming')
""")
_UP: Final = """
WITH RECURSIVE up AS (
  SELECT id, parent_id FROM messages
   WHERE organization_id = :organization_id AND session_id = :session_id AND id = :message_id
  UNION ALL
  SELECT m.id, m.parent_id FROM messages m JOIN up ON m.id = up.parent_id
   WHERE m.organization_id = :organization_id AND m.session_id = :session_id
)
"""
_SHOW_UP_TO: Final = text(f"""
{_UP}
UPDATE messages SET active = NOT active
 WHERE organization_id = :organization_id AND session_id = :session_id
   AND active <> (id IN (SELECT up.id FROM up))
""")
_NEWEST_BELOW: Final = text("""
SELECT id FROM messages
 WHERE organization_id = :organization_id AND session_id = :session_id AND parent_id = :message_id
 ORDER BY position DESC LIMIT 1
""")
_ADD: Final = text("""
INSERT INTO messages (id, organization_id, session_id, role, content, status, model, parent_id)
VALUES (:id, :organization_id, :session_id, :role, :content, :status, :model, :parent_id)
""")
_TOUCH: Final = text(
    "UPDATE sessions SET updated_at = now() WHERE organization_id = :organization_id AND id = :session_id"
)
_HISTORY: Final = text("""
SELECT role, content FROM messages
 WHERE organization_id = :organization_id AND session_id = :session_id AND active
   AND status IN ('complete', 'stopped') AND content <> '' AND position < :before
 ORDER BY position DESC LIMIT :history
""")
_SIBLINGS: Final = text("""
SELECT parent_id, role, array_agg(id ORDER BY position) AS ids FROM messages
 WHERE organization_id = :organization_id AND session_id = :session_id AND parent_id = ANY(:parent_ids)
 GROUP BY parent_id, role
""")
_DEEPEST: Final = 2_000
"""Messages that a branch may have below the one that is chosen; more stay hidden until one of them is chosen."""


@dataclass(frozen=True, slots=True)
class Place:
    """A message of a session of the caller's, which is locked against other turns."""

    session_id: str
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Fork:
    """Where a branch began: the question that is answered there, and what was said before it."""

    question: str
    history: list[StoredTurn]


class BranchRepository(TextRepository):
    async def find(self, message_id: str) -> Place | None:
        """The message, unless its session is somebody else's; that session is locked until the end."""
        row = (
            await self.session.execute(
                _FIND, {**self._scope, "message_id": message_id, "owner_id": self.principal.id}
            )
        ).one_or_none()
        return None if row is None else Place(row.session_id, row.role, row.content)

    async def answer_again(
        self, place: Place, message_id: str, *, answer_id: str, model: str, history: int
    ) -> Fork:
        """A new answer to the question of this one. Raises SessionBusy."""
        session = {**self._scope, "session_id": place.session_id}
        await self.session.execute(_NAME_PARENTS, session)
        parent = (await self.session.execute(_PARENT, {**self._scope, "message_id": message_id})).one()
        await self._go_on_from(place.session_id, parent.parent_id)
        await self._add(place.session_id, answer_id, "assistant", "", parent.parent_id, model)
        before = {**session, "before": parent.position or 0, "history": history}
        earlier = (await self.session.execute(_HISTORY, before)).all()
        return Fork(parent.content or "", [StoredTurn(row.role, row.content) for row in earlier][::-1])

    async def ask_otherwise(
        self,
        place: Place,
        message_id: str,
        question: str,
        *,
        question_id: str,
        answer_id: str,
        model: str,
        history: int,
    ) -> Fork:
        """Another question in the place of this one. Raises SessionBusy."""
        session = {**self._scope, "session_id": place.session_id}
        await self.session.execute(_NAME_PARENTS, session)
        parent = (await self.session.execute(_PARENT, {**self._scope, "message_id": message_id})).one()
        await self._go_on_from(place.session_id, parent.parent_id)
        before = {**session, "before": (parent.position or 0) + 1, "history": history}
        earlier = (await self.session.execute(_HISTORY, before)).all()
        await self._add(place.session_id, question_id, "user", question, parent.parent_id, None)
        await self._add(place.session_id, answer_id, "assistant", "", question_id, model)
        return Fork(question, [StoredTurn(row.role, row.content) for row in earlier][::-1])

    async def show(self, place: Place, message_id: str) -> None:
        """Go on with the branch that this message is of: down from it by what was said last. Raises SessionBusy."""
        session = {**self._scope, "session_id": place.session_id}
        await self._require_quiet(session)
        await self.session.execute(_NAME_PARENTS, session)
        last = message_id
        for _ in range(_DEEPEST):
            below = await self.session.scalar(_NEWEST_BELOW, {**session, "message_id": last})
            if below is None:
                break
            last = below
        await self.session.execute(_SHOW_UP_TO, {**session, "message_id": last})

    async def siblings(
        self, session_id: str, parent_ids: Collection[str]
    ) -> Mapping[tuple[str, str], list[str]]:
        """By parent and role, the ids of the messages that stand in each other's place, oldest first."""
        if not parent_ids:
            return {}
        values = {**self._scope, "session_id": session_id, "parent_ids": list(parent_ids)}
        rows = await self.session.execute(_SIBLINGS, values)
        return {(row.parent_id, row.role): list(row.ids) for row in rows}

    @property
    def _scope(self) -> dict[str, str]:
        return {"organization_id": self.organization_id}

    async def _go_on_from(self, session_id: str, parent_id: str) -> None:
        session = {**self._scope, "session_id": session_id}
        await self._require_quiet(session)
        await self.session.execute(_SHOW_UP_TO, {**session, "message_id": parent_id})
        await self.session.execute(_TOUCH, session)

    async def _require_quiet(self, session: Mapping[str, str]) -> None:
        if await self.session.scalar(_IS_STREAMING, session):
            raise SessionBusy(retry_after_seconds=1)

    async def _add(
        self, session_id: str, message_id: str, role: str, content: str, parent_id: str, model: str | None
    ) -> None:
        values = {
            **self._scope,
            "session_id": session_id,
            "id": message_id,
            "role": role,
            "content": content,
            "status": "streaming" if role == "assistant" else "complete",
            "parent_id": parent_id,
            "model": model,
        }
        try:
            await self.session.execute(_ADD, values)
        except (IntegrityError, asyncpg.IntegrityConstraintViolationError) as error:
            if "uq_messages_streaming" in str(error):
                raise SessionBusy(retry_after_seconds=1) from error
            raise
