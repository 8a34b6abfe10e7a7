"""How often one may guess at a password or a code: 10 times in 15 minutes, however the guesses are spread.

A guess is counted before it is verified and taken back when it was right, so that guesses made at the same moment
count too. Guesses at an account are counted together, from wherever they come. From an address where the account was
logged in lately they are counted on their own, so that strangers who guess do not lock its owner out.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from app.core.errors import TooManyAttempts
from app.core.principal import SYSTEM
from app.db.engine import Database, Transaction
from app.db.repositories.guesses import GuessRepository
from app.db.repositories.logins import LoginRepository

_LIMIT: Final = 10
_WINDOW: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Guess:
    """One guess that may be verified."""

    counted: tuple[tuple[str, datetime], ...]


async def at_account(database: Database, email: str, *, address: str) -> Guess:
    """Count a guess at the account of a lower-case e-mail address, whether there is one or not.

    Raises TooManyAttempts.
    """
    async with database.unit_of_work(SYSTEM) as session:
        subjects = [_subject("account and address", email, address)]
        if not await LoginRepository(session).is_known_address(email, address):
            subjects.insert(0, _subject("account", email))
        return await _count(session, subjects)


async def at_signup(database: Database, *, address: str) -> None:
    """Count a signup, which is also a guess at who has an account. Raises TooManyAttempts."""
    async with database.unit_of_work(SYSTEM) as session:
        await _count(session, [_subject("signup", address)])


async def at_one_time_token(database: Database, *, address: str) -> None:
    """Count a use of an invitation or a reset. Raises TooManyAttempts."""
    async with database.unit_of_work(SYSTEM) as session:
        await _count(session, [_subject("one-time token", address)])


async def refund(database: Database, guess: Guess) -> None:
    """The guess was right: it does not count."""
    async with database.unit_of_work(SYSTEM) as session:
        await refund_within(session, guess)


async def refund_within(session: Transaction, guess: Guess) -> None:
    """As `refund`, in a transaction of the system principal."""
    for subject, moment in guess.counted:
        await GuessRepository(session, window=_WINDOW).refund(subject, moment)


async def purge(session: Transaction) -> None:
    """Forget what no longer counts."""
    await GuessRepository(session, window=_WINDOW).purge()


async def _count(session: Transaction, subjects: list[str]) -> Guess:
    guesses = GuessRepository(session, window=_WINDOW)
    counted = []
    for subject in subjects:
        moment = await guesses.reserve(subject, limit=_LIMIT)
        if moment is None:
            raise TooManyAttempts(retry_after_seconds=await guesses.wait_seconds(subject))
        counted.append((subject, moment))
    return Guess(tuple(counted))


def _subject(kind: str, *parts: str) -> str:
    """A hash: what people type into a field for their address is not to be kept."""
    return hashlib.sha256("\0".join((kind, *parts)).encode("utf-8", "surrogatepass")).hexdigest()
