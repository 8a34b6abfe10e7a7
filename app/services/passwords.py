"""Passwords: hashed two at a time beside the event loop, changed by their owner, reset by a one-time link."""

import asyncio
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from app.core import security
from app.core.errors import InvalidOneTimeToken, WrongPassword
from app.core.principal import SYSTEM
from app.db.engine import Database, Transaction
from app.db.models import User
from app.db.repositories import one_time
from app.db.repositories.accounts import AccountRepository
from app.db.repositories.logins import LoginRepository
from app.services import guesses
from app.services.auth import Caller
from app.services.runtime import Runtime

_NICENESS: Final = 10


def _step_back() -> None:
    """Linux gives each thread a priority of its own: the event loop's thread goes first."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


_HASHERS: Final = ThreadPoolExecutor(2, thread_name_prefix="argon2", initializer=_step_back)
"""Each hash takes 19 MiB and a core: more at once would be slower for everybody else, not faster for anybody."""


async def hashed(password: str) -> str:
    return await asyncio.get_running_loop().run_in_executor(_HASHERS, security.hash_password, password)


async def verify(password: str, user: User | None) -> bool:
    """Whether this is the user's password; takes the same time when there is no such user."""
    stored = user.password_hash if user is not None else security.NO_PASSWORD
    loop = asyncio.get_running_loop()
    right = await loop.run_in_executor(_HASHERS, security.verify_password, password, stored)
    return right and user is not None


async def require(runtime: Runtime, caller: Caller, password: str, *, address: str) -> User:
    """The caller's account, whose password this must be. Raises WrongPassword or TooManyAttempts."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        user = await AccountRepository(session).find(caller.principal.id)
    if user is None:
        raise WrongPassword
    guess = await guesses.at_account(runtime.database, user.email.lower(), address=address)
    if not await verify(password, user):
        raise WrongPassword
    await guesses.refund(runtime.database, guess)
    return user


async def change(runtime: Runtime, caller: Caller, *, present: str, new: str, address: str) -> None:
    """Change the caller's password and end their other logins. Raises WrongPassword or TooManyAttempts."""
    verified = await require(runtime, caller, present, address=address)
    new_hash = await hashed(new)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        user = await AccountRepository(session).lock(verified.id)
        if user is None or user.password_hash != verified.password_hash:
            raise WrongPassword
        await _replace(session, user.id, new_hash, keep=caller.login_id)


async def reset(runtime: Runtime, *, token: str, new: str, address: str) -> None:
    """Set a password by the one-time link that an admin made, and end all logins.

    Raises InvalidOneTimeToken or TooManyAttempts.
    """
    await guesses.at_one_time_token(runtime.database, address=address)
    new_hash = await hashed(new)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        user_id = await one_time.use_password_reset(session, security.token_hash(token))
        if user_id is None:
            raise InvalidOneTimeToken
        await _replace(session, user_id, new_hash, keep=None)


async def replace(database: Database, email: str) -> str | None:
    """Give the account of a lower-case e-mail address a new password, and end all its logins; None without an account.

    For the operator at the machine; nothing is asked.
    """
    new = security.new_password()
    new_hash = await hashed(new)
    async with database.unit_of_work(SYSTEM) as session:
        user = await AccountRepository(session).find_by_email(email)
        if user is None:
            return None
        await _replace(session, user.id, new_hash, keep=None)
    return new


async def _replace(session: Transaction, user_id: str, new_hash: str, *, keep: str | None) -> None:
    await AccountRepository(session).set_password(user_id, new_hash)
    await LoginRepository(session).end_all(user_id, keep=keep)
    await one_time.forget_password_resets(session, user_id)
