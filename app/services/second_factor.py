"""The second factor: enrolment of an authenticator app, its codes, and recovery codes for the day it is lost."""

from dataclasses import dataclass, field
from typing import Final

from app.core import clock, security, totp
from app.core.audit import Action
from app.core.crypto import Keyring
from app.core.errors import TotpAlreadyEnabled, TotpCodeRefused, TotpNotEnrolled, Unauthenticated
from app.core.principal import SYSTEM
from app.db.engine import Transaction
from app.db.models import User
from app.db.repositories.accounts import AccountRepository
from app.db.repositories.logins import LoginRepository
from app.services import audit, guesses, passwords
from app.services.auth import Caller
from app.services.guesses import Guess
from app.services.runtime import Runtime

_RECOVERY_CODES: Final = 10


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator app needs; shown until it is confirmed."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)
    qr_code: str = field(repr=False)


async def accepts(session: Transaction, keyring: Keyring, user: User, code: str) -> bool:
    """Whether the code of the app, or a recovery code, is right; a right one is used up.

    Raises SecretUnreadable.
    """
    accounts = AccountRepository(session)
    if await _accepts_code(accounts, keyring, user, code):
        return True
    return await accounts.use_recovery_code(user.id, security.recovery_code_hash(code))


async def enrol(runtime: Runtime, caller: Caller) -> Enrolment:
    """A new secret for the caller's app, which `confirm` switches on. Raises TotpAlreadyEnabled."""
    secret = totp.new_secret()
    async with runtime.database.unit_of_work(SYSTEM) as session:
        user = await _account(session, caller)
        if not await AccountRepository(session).enrol(user.id, runtime.keyring.encrypt(secret)):
            raise TotpAlreadyEnabled
    uri = totp.provisioning_uri(secret, account=user.email)
    return Enrolment(secret, uri, totp.qr_code(uri))


async def confirm(runtime: Runtime, caller: Caller, code: str, *, address: str) -> list[str]:
    """Switch the second factor on by its first code, end the logins made without it, and give the recovery codes.

    Raises TotpNotEnrolled, TotpAlreadyEnabled, TotpCodeRefused or TooManyAttempts.
    """
    guess = await _guess(runtime, caller, address)
    codes = [security.new_recovery_code() for _ in range(_RECOVERY_CODES)]
    async with runtime.database.unit_of_work(SYSTEM) as session:
        user = await _account(session, caller)
        if user.totp_enabled_at is not None:
            raise TotpAlreadyEnabled
        accounts = AccountRepository(session)
        if not await _accepts_code(accounts, runtime.keyring, user, code):
            raise TotpCodeRefused
        await accounts.enable_totp(user.id, moment=clock.now())
        await accounts.replace_recovery_codes(user, [security.recovery_code_hash(code) for code in codes])
        await LoginRepository(session).end_all(user.id, keep=caller.login_id)
        await guesses.refund_within(session, guess)
    return codes


async def disable(runtime: Runtime, caller: Caller, *, password: str, code: str, address: str) -> None:
    """Switch the second factor off, by password and a code (or a recovery code).

    Raises WrongPassword, TotpNotEnrolled, TotpCodeRefused or TooManyAttempts.
    """
    await passwords.require(runtime, caller, password, address=address)
    guess = await _guess(runtime, caller, address)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        user = await _require_code(session, runtime, caller, code)
        await AccountRepository(session).disable_totp(user.id)
        await guesses.refund_within(session, guess)


async def renew_recovery_codes(runtime: Runtime, caller: Caller, code: str, *, address: str) -> list[str]:
    """New recovery codes in place of the old ones. Raises TotpNotEnrolled, TotpCodeRefused or TooManyAttempts."""
    guess = await _guess(runtime, caller, address)
    codes = [security.new_recovery_code() for _ in range(_RECOVERY_CODES)]
    async with runtime.database.unit_of_work(SYSTEM) as session:
        user = await _require_code(session, runtime, caller, code)
        await AccountRepository(session).replace_recovery_codes(
            user, [security.recovery_code_hash(code) for code in codes]
        )
        await audit.record(
            session,
            Action.RECOVERY_CODES_RENEWED,
            organization_id=user.organization_id,
            object_type="user",
            object_id=user.id,
        )
        await guesses.refund_within(session, guess)
    return codes


async def _account(session: Transaction, caller: Caller) -> User:
    user = await AccountRepository(session).lock(caller.principal.id)
    if user is None:
        raise Unauthenticated
    return user


async def _guess(runtime: Runtime, caller: Caller, address: str) -> Guess:
    async with runtime.database.unit_of_work(SYSTEM) as session:
        user = await AccountRepository(session).find(caller.principal.id)
    if user is None:
        raise Unauthenticated
    return await guesses.at_account(runtime.database, user.email.lower(), address=address)


async def _require_code(session: Transaction, runtime: Runtime, caller: Caller, code: str) -> User:
    user = await _account(session, caller)
    if user.totp_enabled_at is None:
        raise TotpNotEnrolled
    if not await accepts(session, runtime.keyring, user, code):
        raise TotpCodeRefused
    return user


async def _accepts_code(accounts: AccountRepository, keyring: Keyring, user: User, code: str) -> bool:
    if user.totp_secret is None:
        raise TotpNotEnrolled
    step = totp.matching_step(keyring.decrypt(user.totp_secret), code, now=clock.now())
    return step is not None and await accounts.use_step(user.id, step)
