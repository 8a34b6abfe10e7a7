"""Whose credential this is: asked with every request, by the system principal, before it is known who is asking."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text

from app.core.principal import Role, Scope
from app.db.engine import AnyTransaction, LookUps

KEY_IS_LIVE: Final = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
_KEY: Final = text(f"""
SELECT id, organization_id, secret_hash, scopes, collection_ids, last_used_at, rate_limit, bot_id
  FROM api_keys WHERE public_part = :public_part AND {KEY_IS_LIVE}
""")
_IS_LIVE: Final = text(f"SELECT id FROM api_keys WHERE id = :id AND {KEY_IS_LIVE}")
_TOUCH_KEY: Final = text("""
UPDATE api_keys SET last_used_at = now()
 WHERE id = (SELECT id FROM api_keys WHERE id = :id FOR UPDATE SKIP LOCKED)
""")
_LOGIN: Final = text("""
SELECT u.role, u.totp_enabled_at IS NOT NULL AS has_totp, (SELECT id FROM organizations WHERE id = :acts_in) AS acts_in
  FROM users u JOIN logins l ON l.user_id = u.id
 WHERE l.id = :login_id AND l.ended_at IS NULL
   AND u.id = :user_id AND u.organization_id = :organization_id AND u.is_active
""")


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An API key that is neither revoked nor expired."""

    id: str
    organization_id: str
    secret_hash: str
    scopes: frozenset[Scope]
    collection_ids: frozenset[str] | None
    last_used_at: datetime | None
    rate_limit: str | None
    bot_id: str | None


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """An active user with a login that has not ended. `acts_in` is None when the organization named does not exist."""

    user_id: str
    organization_id: str
    role: Role
    has_totp: bool
    acts_in: str | None


class CredentialRepository:
    def __init__(self, session: AnyTransaction | LookUps) -> None:
        self.session = session

    async def find_live_key(self, public_part: str) -> StoredKey | None:
        row = (await self.session.execute(_KEY, {"public_part": public_part})).one_or_none()
        if row is None:
            return None
        return StoredKey(
            row.id,
            row.organization_id,
            row.secret_hash,
            frozenset(map(Scope, row.scopes)),
            None if row.collection_ids is None else frozenset(row.collection_ids),
            row.last_used_at,
            row.rate_limit,
            row.bot_id,
        )

    async def is_live_key(self, key_id: str) -> bool:
        """Whether a key that was found before is neither revoked nor expired by now."""
        return (await self.session.execute(_IS_LIVE, {"id": key_id})).one_or_none() is not None

    async def touch_key(self, key_id: str) -> None:
        """Note that a key is used now. Of requests that do so at once one writes, and none waits for it."""
        await self.session.execute(_TOUCH_KEY, {"id": key_id})

    async def find_live_login(
        self, *, login_id: str, user_id: str, organization_id: str, acts_in: str
    ) -> LoggedIn | None:
        """Who this is, if the login still stands."""
        row = (
            await self.session.execute(
                _LOGIN,
                {
                    "login_id": login_id,
                    "user_id": user_id,
                    "organization_id": organization_id,
                    "acts_in": acts_in,
                },
            )
        ).one_or_none()
        if row is None:
            return None
        return LoggedIn(user_id, organization_id, Role(row.role), row.has_totp, row.acts_in)
