"""Who is asking: from a credential to a principal."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from app.core import clock, security, tokens
from app.core.errors import (
    MissingScope,
    OrganizationNotFound,
    SuperadminRequired,
    TotpEnrolmentRequired,
    Unauthenticated,
    UserRequired,
)
from app.core.principal import SYSTEM, Principal, PrincipalKind, Role, Scope, scopes_of
from app.core.security import ApiKey
from app.core.tokens import Purpose
from app.db.engine import Database
from app.db.repositories.credentials import CredentialRepository, StoredKey
from app.services.remembered_keys import RememberedKey
from app.services.runtime import Runtime

_LAST_USE_PRECISION: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. `login_id` is None for API keys; with `lacks_totp` only enrolment is allowed."""

    principal: Principal
    login_id: str | None = None
    lacks_totp: bool = False


async def authenticate(runtime: Runtime, credential: str, *, organization_id: str | None = None) -> Caller:
    """The caller of an API key or an access token; `organization_id` is where a superadmin wants to act.

    Raises Unauthenticated for anything missing, wrong, ended or expired alike (TokenExpired for an access token that
    only needs a refresh), OrganizationNotFound when the caller may not act in that organization.
    """
    if security.parse_api_key(credential) is None:
        return await _authenticate_user(runtime, credential, organization_id)
    return _caller(await authenticate_key(runtime.database, credential), organization_id)


async def authenticate_asker(
    runtime: Runtime, credential: str, *, organization_id: str | None = None
) -> Caller:
    """As `authenticate`, but the principal of an API key that was live a moment ago `is_unproven`.

    Whoever opens a turn asks the database in the same statement; everybody else has to `prove` it first.
    """
    key = security.parse_api_key(credential)
    if key is None:
        return await _authenticate_user(runtime, credential, organization_id)
    known = runtime.remembered_keys.get(key.public)
    if known is not None and key.matches(known.stored.secret_hash) and not _was_used_long_ago(known.stored):
        return _caller(known.principal, organization_id)
    stored = await _checked_key(runtime.database, key)
    principal = _principal_of(stored)
    runtime.remembered_keys.put(key.public, RememberedKey(stored, replace(principal, once_proven=principal)))
    return _caller(principal, organization_id)


async def prove(runtime: Runtime, principal: Principal) -> Principal:
    """The principal, who may come in now. Raises Unauthenticated when the key is revoked or expired by now."""
    if principal.is_unproven:
        async with runtime.database.single(SYSTEM) as session:
            if not await CredentialRepository(session).is_live_key(principal.id):
                runtime.remembered_keys.forget(principal.id)
                raise Unauthenticated
    return principal.proven()


def _caller(principal: Principal, organization_id: str | None) -> Caller:
    if organization_id not in (None, principal.organization_id):
        raise OrganizationNotFound
    return Caller(principal)


async def authenticate_key(database: Database, credential: str) -> Principal:
    """The principal of an API key. Raises Unauthenticated for a missing, wrong, revoked or expired one alike."""
    return _principal_of(await _checked_key(database, security.parse_api_key(credential)))


async def _checked_key(database: Database, key: ApiKey | None) -> StoredKey:
    if key is None:
        raise Unauthenticated
    stored = await _live_key(database, key.public)
    if stored is None or not key.matches(stored.secret_hash):
        raise Unauthenticated
    if _was_used_long_ago(stored):
        async with database.direct(SYSTEM) as session:
            await CredentialRepository(session).touch_key(stored.id)
    return stored


def _principal_of(stored: StoredKey) -> Principal:
    return Principal(
        PrincipalKind.API_KEY,
        stored.id,
        stored.organization_id,
        Role.ADMIN,
        stored.scopes,
        stored.collection_ids,
        stored.rate_limit,
        stored.bot_id,
    )


async def _live_key(database: Database, public_part: str) -> StoredKey | None:
    found = await CredentialRepository(database.look_ups).find_live_key(public_part)
    if found is not None:
        return found
    async with database.direct(SYSTEM) as session:
        return await CredentialRepository(session).find_live_key(public_part)


async def authenticate_for_tables(runtime: Runtime, token: str) -> Caller:
    """The superadmin whose cookie of the admin tables this is.

    Raises Unauthenticated, SuperadminRequired or TotpEnrolmentRequired.
    """
    caller = await _authenticate_user(runtime, token, None, purpose=Purpose.TABLES)
    require_superadmin(require_complete(caller))
    return caller


async def _authenticate_user(
    runtime: Runtime, credential: str, organization_id: str | None, *, purpose: Purpose = Purpose.API
) -> Caller:
    claims = tokens.read(runtime.keyring, credential, purpose=purpose)
    acts_in = organization_id or claims.organization_id
    async with runtime.database.single(SYSTEM) as session:
        user = await CredentialRepository(session).find_live_login(
            login_id=claims.login_id,
            user_id=claims.user_id,
            organization_id=claims.organization_id,
            acts_in=acts_in,
        )
    if user is None:
        raise Unauthenticated
    if user.acts_in is None or (user.acts_in != user.organization_id and user.role is not Role.SUPERADMIN):
        raise OrganizationNotFound
    principal = Principal(PrincipalKind.USER, user.user_id, user.acts_in, user.role, scopes_of(user.role))
    needs_totp = runtime.settings.admin_totp_required and user.role is not Role.USER
    return Caller(principal, claims.login_id, lacks_totp=needs_totp and not user.has_totp)


def require_complete(caller: Caller) -> Principal:
    """The principal of a caller who has all factors. Raises TotpEnrolmentRequired."""
    if caller.lacks_totp:
        raise TotpEnrolmentRequired
    return caller.principal


def require_user(caller: Caller) -> Caller:
    """Raise UserRequired unless a person has logged in."""
    if caller.principal.kind is not PrincipalKind.USER:
        raise UserRequired
    return caller


def require_scope(principal: Principal, scope: Scope) -> None:
    """Raise MissingScope unless the credential carries the scope."""
    if scope not in principal.scopes:
        raise MissingScope(
            f"These credentials lack the scope '{scope}'.",
            details={"required": scope, "granted": sorted(principal.scopes)},
        )


def require_superadmin(principal: Principal) -> None:
    """Raise SuperadminRequired for everybody else."""
    if principal.role is not Role.SUPERADMIN:
        raise SuperadminRequired


def _was_used_long_ago(key: StoredKey) -> bool:
    return key.last_used_at is None or clock.now() - key.last_used_at > _LAST_USE_PRECISION
