"""Logging in, staying logged in, logging out.

A login gives a short access token and a refresh token that works once: each refresh gives the next one. A refresh
token that comes a second time was stolen from somebody, so it ends the login for whoever holds its descendants.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from app.core import clock, security, tokens
from app.core.audit import Action
from app.core.errors import (
    AppError,
    InvalidRefreshToken,
    LoginFailed,
    SuperadminRequired,
    TotpEnrolmentRequired,
    TotpRequired,
    TotpWrong,
)
from app.core.principal import SYSTEM, Role
from app.core.tokens import AccessClaims, Purpose
from app.db.engine import Transaction
from app.db.models import User
from app.db.repositories.accounts import AccountRepository
from app.db.repositories.logins import LoginRepository
from app.services import audit, guesses, passwords, second_factor
from app.services.auth import Caller
from app.services.runtime import Runtime

_TABLES_LIFETIME: Final = timedelta(hours=8)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login or a refresh gives. With `totp_enrolment_required` they serve for enrolment alone."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in_seconds: int
    totp_enrolment_required: bool


async def login(
    runtime: Runtime,
    *,
    email: str,
    password: str,
    totp_code: str | None,
    address: str,
    purpose: Purpose = Purpose.API,
) -> Tokens:
    """Log in by password and, where one is enrolled, second factor; to the admin tables as a superadmin only.

    Raises LoginFailed, TotpRequired, TotpWrong, TooManyAttempts or SecretUnreadable; for the tables also
    SuperadminRequired and TotpEnrolmentRequired.
    """
    guess = await guesses.at_account(runtime.database, email, address=address)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        found = await AccountRepository(session).find_by_email(email)
    if not await passwords.verify(password, found) or found is None or not found.is_active:
        await _tell_failure(runtime, found, LoginFailed.code)
        raise LoginFailed
    if found.totp_enabled_at is not None and not totp_code:
        await guesses.refund(runtime.database, guess)
        raise TotpRequired
    async with runtime.database.unit_of_work(SYSTEM) as session:
        user = await AccountRepository(session).lock(found.id)
        if user is None or not user.is_active or user.password_hash != found.password_hash:
            raise LoginFailed  # changed while the password was verified
        if user.totp_enabled_at is None or (
            totp_code and await second_factor.accepts(session, runtime.keyring, user, totp_code)
        ):
            await guesses.refund_within(session, guess)
            if (refusal := _refusal(runtime, user, purpose)) is None:
                login_id = await LoginRepository(session).add(user, address=address)
                return await _issue(runtime, session, user, login_id, purpose)
        else:
            refusal = TotpWrong()
    await _tell_failure(runtime, found, refusal.code)
    raise refusal


async def refresh(runtime: Runtime, refresh_token: str) -> Tokens:
    """The next pair of tokens. Of requests that bring the same token at once, one wins and the login ends.

    Raises InvalidRefreshToken.
    """
    token_hash = security.token_hash(refresh_token)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        logins = LoginRepository(session)
        held = await logins.lock_by_token(token_hash)
        if held is None or held.ended_at is not None:
            raise InvalidRefreshToken
        expires_at = await logins.use_token(token_hash)
        user = await AccountRepository(session).find(held.user_id)
        if expires_at is not None and expires_at > clock.now() and user is not None and user.is_active:
            return await _issue(runtime, session, user, held.id, Purpose.API)
        if expires_at is None:
            await logins.end(held.id)
            await audit.record(
                session,
                Action.REFRESH_TOKEN_REUSED,
                organization_id=held.organization_id,
                object_type="user",
                object_id=held.user_id,
                after={"login_id": held.id},
            )
    raise InvalidRefreshToken  # only here, so that the end of the login is committed


async def logout(runtime: Runtime, caller: Caller, *, everywhere: bool) -> None:
    """End the caller's login, or all of them; their access tokens end with it."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        logins = LoginRepository(session)
        if everywhere:
            await logins.end_all(caller.principal.id)
        elif caller.login_id is not None:
            await logins.end(caller.login_id)


async def purge(session: Transaction) -> None:
    """Remove what has expired, in a transaction of the system principal."""
    await LoginRepository(session).purge()
    await guesses.purge(session)


async def _tell_failure(runtime: Runtime, user: User | None, reason: str) -> None:
    """Write a failed login down. Of an unknown account nothing: people type passwords into the field for the address."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        await audit.record(
            session,
            Action.LOGIN_FAILED,
            organization_id=user.organization_id if user else None,
            object_type="user",
            object_id=user.id if user else None,
            after={"reason": reason},
        )


def _refusal(runtime: Runtime, user: User, purpose: Purpose) -> AppError | None:
    """Why somebody who is who they say may not come in here."""
    if purpose is Purpose.API:
        return None
    if user.role != Role.SUPERADMIN:
        return SuperadminRequired()
    return TotpEnrolmentRequired() if _lacks_totp(runtime, user) else None


def _lacks_totp(runtime: Runtime, user: User) -> bool:
    required = runtime.settings.admin_totp_required and user.role != Role.USER
    return required and user.totp_enabled_at is None


async def _issue(
    runtime: Runtime, session: Transaction, user: User, login_id: str, purpose: Purpose
) -> Tokens:
    settings = runtime.settings
    lifetime, lasting = (
        timedelta(minutes=settings.access_token_minutes),
        timedelta(days=settings.refresh_token_days),
    )
    if purpose is Purpose.TABLES:  # a cookie is not refreshed
        lifetime = lasting = _TABLES_LIFETIME
    refresh_token = security.new_token()
    await LoginRepository(session).add_token(
        login_id=login_id,
        organization_id=user.organization_id,
        token_hash=security.token_hash(refresh_token),
        expires_at=clock.now() + lasting,
    )
    claims = AccessClaims(user.id, user.organization_id, login_id)
    return Tokens(
        access_token=tokens.issue(runtime.keyring, claims, lifetime=lifetime, purpose=purpose),
        refresh_token=refresh_token,
        expires_in_seconds=int(lifetime.total_seconds()),
        totp_enrolment_required=_lacks_totp(runtime, user),
    )
