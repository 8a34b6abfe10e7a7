"""Links to copies of conversations: made and revoked by the owner of the session, opened by whoever has the link."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import ids
from app.db.repositories.base import TextRepository

_OF_OWNER: Final = """
EXISTS (SELECT FROM sessions s
         WHERE s.organization_id = :organization_id AND s.id = :session_id AND s.owner_id = :owner_id)
"""
_LIVE: Final = "(expires_at IS NULL OR expires_at > now())"
_ADD: Final = text(f"""
INSERT INTO session_shares (id, organization_id, session_id, token_hash, title, messages, expires_at)
SELECT :id, :organization_id, :session_id, :token_hash, :title, CAST(CAST(:messages AS text) AS jsonb),
       CAST(:expires_at AS timestamptz)
 WHERE {_OF_OWNER}
RETURNING id, title, created_at, expires_at
""")
_HOLD_OFF: Final = text(
    "SELECT pg_advisory_xact_lock(hashtextextended('shares ' || CAST(:organization_id AS text) || CAST(:session_id AS text), 0))"
)
_COUNT: Final = text(f"""
SELECT count(*) FROM session_shares
 WHERE organization_id = :organization_id AND session_id = :session_id AND {_LIVE} AND {_OF_OWNER}
""")
_LIST: Final = text(f"""
SELECT id, title, created_at, expires_at FROM session_shares
 WHERE organization_id = :organization_id AND session_id = :session_id AND {_LIVE} AND {_OF_OWNER}
 ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :offset
""")
_REVOKE: Final = text(f"""
DELETE FROM session_shares
 WHERE organization_id = :organization_id AND session_id = :session_id
   AND (CAST(:id AS text) IS NULL OR id = :id) AND {_OF_OWNER}
RETURNING id
""")
# A link is as good as the account behind it.
_OPEN: Final = text("""
SELECT h.title, CAST(h.messages AS text) AS messages, h.created_at, h.expires_at
  FROM session_shares h
  JOIN sessions s ON s.organization_id = h.organization_id AND s.id = h.session_id
 WHERE h.token_hash = :token_hash AND (h.expires_at IS NULL OR h.expires_at > now())
   AND NOT EXISTS (SELECT FROM users u WHERE u.id = s.owner_id AND NOT u.is_active)
   AND NOT EXISTS (SELECT FROM api_keys k
                    WHERE k.id = s.owner_id AND (k.revoked_at IS NOT NULL OR k.expires_at <= now()))
""")
_PURGE: Final = text("DELETE FROM session_shares WHERE expires_at <= now()")


@dataclass(frozen=True, slots=True)
class Share:
    """A link as its owner sees it: without its token, which nobody knows any more."""

    id: str
    title: str
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Shared:
    """What a link opens."""

    title: str
    messages: Sequence[Mapping[str, Any]]
    created_at: datetime
    expires_at: datetime | None


class ShareRepository(TextRepository):
    """Of sessions of the caller's own; of others nothing is found."""

    async def add(
        self,
        session_id: str,
        *,
        token_hash: str,
        title: str,
        messages: Sequence[Mapping[str, Any]],
        expires_at: datetime | None,
    ) -> Share | None:
        row = (
            await self.session.execute(
                _ADD,
                {
                    **self._session(session_id),
                    "id": ids.new(ids.Prefix.SHARE),
                    "token_hash": token_hash,
                    "title": title,
                    "messages": json.dumps(messages, ensure_ascii=False),
                    "expires_at": expires_at,
                },
            )
        ).one_or_none()
        return None if row is None else Share(*row)

    async def count(self, session_id: str) -> int:
        """How many links to a session open. Whoever else asks waits until the transaction ends."""
        await self.session.execute(
            _HOLD_OFF, {"organization_id": self.organization_id, "session_id": session_id}
        )
        return int(await self.session.scalar(_COUNT, self._session(session_id)) or 0)

    async def newest(self, session_id: str, *, limit: int, offset: int) -> list[Share]:
        rows = await self.session.execute(
            _LIST, {**self._session(session_id), "limit": limit, "offset": offset}
        )
        return [Share(*row) for row in rows]

    async def revoke(self, session_id: str, share_id: str | None) -> int:
        """Revoke one link, or (None) all of the session's; returns how many there were."""
        rows = await self.session.execute(_REVOKE, {**self._session(session_id), "id": share_id})
        return len(rows.all())

    def _session(self, session_id: str) -> dict[str, Any]:
        return {
            "organization_id": self.organization_id,
            "owner_id": self.principal.id,
            "session_id": session_id,
        }


async def open_share(session: AsyncSession, token_hash: str) -> Shared | None:
    """What is shared under a token, whoever asks. For the system principal."""
    row = (await session.execute(_OPEN, {"token_hash": token_hash})).one_or_none()
    return (
        None if row is None else Shared(row.title, json.loads(row.messages), row.created_at, row.expires_at)
    )


async def purge_shares(session: AsyncSession) -> None:
    """Forget the links that have expired. For the system principal."""
    await session.execute(_PURGE)
