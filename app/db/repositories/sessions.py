"""The sessions of one owner: listed, searched, renamed, judged, deleted.

The search reads the owner's sessions from the newest on and looks for the words as they stand, in any script
(docs/decisions/0024-conversations-of-their-owner.md says why it uses no index).
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text

from app.db.repositories.base import TextRepository

_COLUMNS: Final = """
s.id, s.title, s.pinned, s.created_at, s.updated_at,
       (SELECT c.id FROM collections c WHERE c.organization_id = s.organization_id AND c.session_id = s.id) AS collection_id,
       s.bot_id
"""
_PAGE: Final = """
SELECT {columns}
  FROM sessions s
 WHERE s.organization_id = :organization_id AND s.owner_id = :owner_id {after}
 ORDER BY s.pinned DESC, s.updated_at DESC, s.id DESC
 LIMIT :limit OFFSET :offset
"""
_AFTER: Final = """
AND (s.pinned, s.updated_at, s.id) < (CAST(:pinned AS boolean), CAST(:moment AS timestamptz), CAST(:id AS text))
"""
_FIRST_PAGE: Final = text(_PAGE.format(columns=_COLUMNS, after=""))
_NEXT_PAGE: Final = text(_PAGE.format(columns=_COLUMNS, after=_AFTER))

# Of a conversation without an end the newest messages are looked at.
_EXAMINED: Final = """
WITH examined AS MATERIALIZED ({page}), asked AS MATERIALIZED (
  SELECT ARRAY(SELECT lower(x) FROM unnest(CAST(:patterns AS text[])) x) AS patterns, lower(CAST(:first AS text)) AS first
)
SELECT e.*, coalesce(lower(e.title) LIKE ALL (a.patterns), false) AS in_title,
       found.id AS message_id, found.excerpt
  FROM examined e CROSS JOIN asked a
  LEFT JOIN LATERAL (
    SELECT m.id,
           substring(m.content FROM greatest(1, strpos(lower(m.content), a.first) - 60) FOR 240) AS excerpt
      FROM (SELECT m.id, m.content, m.position FROM messages m
             WHERE m.organization_id = :organization_id AND m.session_id = e.id AND m.active
             ORDER BY m.position DESC LIMIT :messages) m
     WHERE lower(m.content) LIKE ALL (a.patterns)
     ORDER BY m.position DESC LIMIT 1
  ) found ON true
 ORDER BY e.pinned DESC, e.updated_at DESC, e.id DESC
"""
_EXAMINE_FIRST: Final = text(_EXAMINED.format(page=_FIRST_PAGE.text))
_EXAMINE_NEXT: Final = text(_EXAMINED.format(page=_NEXT_PAGE.text))

_OWN: Final = "s.organization_id = :organization_id AND s.id = :session_id AND s.owner_id = :owner_id"
_FIND: Final = text(f"""
SELECT {_COLUMNS}, s.title_source, s.summary, s.summary_through,
       EXISTS (SELECT FROM messages m
                WHERE m.organization_id = s.organization_id AND m.session_id = s.id AND m.position = s.summary_through
                  AND m.active) AS summary_is_shown,
       (SELECT count(*) FROM messages m
         WHERE m.organization_id = s.organization_id AND m.session_id = s.id AND m.active) AS messages
  FROM sessions s WHERE {_OWN}
""")
_CHANGE: Final = text(f"""
UPDATE sessions s
   SET title = coalesce(CAST(:title AS text), s.title),
       title_source = CASE WHEN CAST(:title AS text) IS NULL THEN s.title_source ELSE 'person' END,
       pinned = coalesce(CAST(:pinned AS boolean), s.pinned)
 WHERE {_OWN} RETURNING s.id
""")
_ENTITLE: Final = text(f"""
UPDATE sessions s SET title = :title, title_source = 'model' WHERE {_OWN} AND s.title_source = 'question' RETURNING s.id
""")
_SUMMARISE: Final = text(f"""
UPDATE sessions s SET summary = :summary, summary_through = :through
 WHERE {_OWN} AND s.summary_through IS NOT DISTINCT FROM CAST(:known AS bigint) RETURNING s.id
""")
# Whoever follows one of the documents hears of it; the files are on the list of those to remove once the rows are gone.
_FILES: Final = text("""
SELECT d.id, d.storage_key, d.pending ->> 'storage_key' AS pending_key, pg_notify(:channel, d.id) AS told
  FROM collections c JOIN documents d ON d.organization_id = c.organization_id AND d.collection_id = c.id
 WHERE c.organization_id = :organization_id AND c.session_id = :session_id
""")
_STREAMING: Final = text("""
SELECT id FROM messages
 WHERE organization_id = :organization_id AND session_id = :session_id AND status = 'streaming'
""")
_LOCK: Final = text(f"SELECT s.id FROM sessions s WHERE {_OWN} FOR UPDATE")
_DELETE: Final = text(f"DELETE FROM sessions s WHERE {_OWN} RETURNING s.id")
_JUDGE: Final = text("""
UPDATE messages m SET feedback = CAST(CAST(:feedback AS text) AS jsonb)
  FROM sessions s
 WHERE m.organization_id = :organization_id AND m.id = :message_id AND m.role = 'assistant'
   AND s.organization_id = m.organization_id AND s.id = m.session_id AND s.owner_id = :owner_id
RETURNING m.id
""")

Place = tuple[bool, datetime, str]
"""Where in the list a session stands: whether pinned, when last active, its id."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Where a search found its words: in this message, or (None) in the title."""

    message_id: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A session in the list; `collection_id` is that of its own files, if it has any."""

    id: str
    title: str
    pinned: bool
    created_at: datetime
    updated_at: datetime
    collection_id: str | None
    bot_id: str | None
    match: Excerpt | None = None

    @property
    def place(self) -> Place:
        return self.pinned, self.updated_at, self.id


@dataclass(frozen=True, slots=True)
class Details(Listed):
    """One session by itself."""

    title_source: str = ""
    summary: str | None = None
    summary_through: int | None = None
    summary_is_shown: bool = False
    """Whether it is of the branch that is shown."""
    messages: int = 0


@dataclass(frozen=True, slots=True)
class Deleted:
    """What is left to do for a session that is gone: its files, and its answers that are still being given."""

    storage_keys: Collection[str]
    streaming_ids: Sequence[str]


class SessionRepository(TextRepository):
    async def page(self, *, limit: int, after: Place | None, offset: int) -> list[Listed]:
        """Sessions in the order of the list: pinned ones first, then the last active ones."""
        statement = _FIRST_PAGE if after is None else _NEXT_PAGE
        rows = await self.session.execute(
            statement, {**self._owner, **_place(after), "limit": limit, "offset": offset}
        )
        return [Listed(*row) for row in rows]

    async def examine(
        self, words: Sequence[str], *, limit: int, after: Place | None, messages: int
    ) -> list[Listed]:
        """The next sessions of the list, those with a `match` in which title or one message has all of the words.

        Of each session the newest messages are looked at, at most so many.
        """
        statement = _EXAMINE_FIRST if after is None else _EXAMINE_NEXT
        rows = await self.session.execute(
            statement,
            {
                **self._owner,
                **_place(after),
                "limit": limit,
                "offset": 0,
                "patterns": [f"%{_literally(word)}%" for word in words],
                "first": words[0],
                "messages": messages,
            },
        )
        return [_examined(row) for row in rows]

    async def find(self, session_id: str) -> Details | None:
        row = (await self.session.execute(_FIND, self._session(session_id))).one_or_none()
        if row is None:
            return None
        return Details(
            id=row.id,
            title=row.title,
            pinned=row.pinned,
            created_at=row.created_at,
            updated_at=row.updated_at,
            collection_id=row.collection_id,
            bot_id=row.bot_id,
            title_source=row.title_source,
            summary=row.summary,
            summary_through=row.summary_through,
            summary_is_shown=row.summary_is_shown,
            messages=row.messages,
        )

    async def change(self, session_id: str, *, title: str | None, pinned: bool | None) -> bool:
        """Rename and pin; None leaves as it is. False when it is not the caller's."""
        values = {**self._session(session_id), "title": title, "pinned": pinned}
        return await self.session.scalar(_CHANGE, values) is not None

    async def entitle(self, session_id: str, title: str) -> bool:
        """A title by the model, unless the session is called otherwise than after its question by now."""
        return await self.session.scalar(_ENTITLE, {**self._session(session_id), "title": title}) is not None

    async def summarise(self, session_id: str, summary: str, *, through: int, known: int | None) -> bool:
        """A summary of everything up to a position; False when another one has replaced the one `known` meanwhile."""
        values = {**self._session(session_id), "summary": summary, "through": through, "known": known}
        return await self.session.scalar(_SUMMARISE, values) is not None

    async def delete(self, session_id: str, *, channel: str) -> Deleted | None:
        """Delete with messages, shares and files. None when it is not the caller's.

        Whoever follows one of its documents on the channel hears of it.
        """
        own = self._session(session_id)
        if await self.session.scalar(_LOCK, own) is None:
            return None
        rows = await self.session.execute(_FILES, {**own, "channel": channel})
        keys = {key for row in rows for key in (row.storage_key, row.pending_key) if key is not None}
        streaming = [row.id for row in await self.session.execute(_STREAMING, own)]
        await self.session.scalar(_DELETE, own)
        return Deleted(keys, streaming)

    async def judge(self, message_id: str, feedback: Mapping[str, Any] | None) -> bool:
        """Write what the owner thinks of an answer; False when there is no such answer of theirs."""
        values = {
            **self._owner,
            "message_id": message_id,
            "feedback": None if feedback is None else json.dumps(feedback),
        }
        return await self.session.scalar(_JUDGE, values) is not None

    @property
    def _owner(self) -> dict[str, Any]:
        return {"organization_id": self.organization_id, "owner_id": self.principal.id}

    def _session(self, session_id: str) -> dict[str, Any]:
        return {**self._owner, "session_id": session_id}


def _place(after: Place | None) -> dict[str, Any]:
    return {} if after is None else dict(zip(("pinned", "moment", "id"), after, strict=True))


def _literally(word: str) -> str:
    """For LIKE: what would stand for anything stands for itself."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _examined(row: Any) -> Listed:
    match = None
    if row.in_title:
        match = Excerpt(None, row.title)
    elif row.message_id is not None:
        match = Excerpt(row.message_id, row.excerpt)
    return Listed(
        row.id, row.title, row.pinned, row.created_at, row.updated_at, row.collection_id, row.bot_id, match
    )
