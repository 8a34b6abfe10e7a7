"""Requests that may come twice: who sent which key, and what was answered."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import bindparam

from app.db.repositories.base import Repository

_MINE: Final = "organization_id = :organization_id AND owner_id = :owner_id AND key = :key"

# One that was abandoned, or is too old, is taken over as if it were not there.
_BEGIN: Final = text("""
INSERT INTO idempotency_keys AS k (organization_id, owner_id, key, route, locked_until, expires_at)
VALUES (:organization_id, :owner_id, :key, :route, now() + :patience, now() + :lifetime)
ON CONFLICT (organization_id, owner_id, key) DO UPDATE
   SET route = EXCLUDED.route, locked_until = EXCLUDED.locked_until, expires_at = EXCLUDED.expires_at,
       fingerprint = NULL, status = NULL, body = NULL
 WHERE k.expires_at <= now() OR (k.status IS NULL AND k.locked_until <= now())
RETURNING key
""")
_FIND: Final = text(f"SELECT route, fingerprint, status, body FROM idempotency_keys WHERE {_MINE}")
_ANSWER: Final = text(f"""
UPDATE idempotency_keys SET fingerprint = :fingerprint, status = :status, body = :body
 WHERE {_MINE} AND status IS NULL
""").bindparams(bindparam("body", type_=JSONB))
_FORGET: Final = text(f"DELETE FROM idempotency_keys WHERE {_MINE} AND status IS NULL")
_PURGE: Final = text("""
DELETE FROM idempotency_keys WHERE expires_at <= now() OR (status IS NULL AND locked_until <= now() - interval '1 hour')
""")


@dataclass(frozen=True, slots=True)
class KnownRequest:
    """A request that was sent before; without a status it is still being answered."""

    route: str
    fingerprint: str | None
    status: int | None
    body: Any


class IdempotencyRepository(Repository):
    async def begin(
        self, key: str, *, route: str, patience: timedelta, lifetime: timedelta
    ) -> KnownRequest | None:
        """None when the request is new, and from now on under way; else what is known of it."""
        parameters = {
            **self._mine(key),
            "route": route,
            "patience": patience,
            "lifetime": lifetime,
        }
        if await self.session.scalar(_BEGIN, parameters) is not None:
            return None
        row = (await self.session.execute(_FIND, self._mine(key))).one_or_none()
        return None if row is None else KnownRequest(row.route, row.fingerprint, row.status, row.body)

    async def answer(self, key: str, *, fingerprint: str, status: int, body: Any) -> None:
        """Keep what was answered."""
        await self.session.execute(
            _ANSWER, {**self._mine(key), "fingerprint": fingerprint, "status": status, "body": body}
        )

    async def forget(self, key: str) -> None:
        """The request failed, so it may be sent again."""
        await self.session.execute(_FORGET, self._mine(key))

    def _mine(self, key: str) -> dict[str, str]:
        return {"organization_id": self.organization_id, "owner_id": self.principal.id, "key": key}


async def purge(session: AsyncSession) -> None:
    """Forget what is too old. For the system principal."""
    await session.execute(_PURGE)
