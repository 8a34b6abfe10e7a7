"""How often something may be done: `60/minute per user, 600/minute per key`, as settings and API keys write it."""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from limits import RateLimitItem, parse


class Activity(StrEnum):
    """What is limited."""

    LOGIN = "login"
    CHAT = "chat"
    SEARCH = "search"
    INGEST = "ingest"
    SHARED = "shared"


class Subject(StrEnum):
    """Whose doings are counted together."""

    USER = "user"
    KEY = "key"
    ADDRESS = "address"


_OFF: Final = "off"
_MAX_RATES: Final = 10
_MAX_AMOUNT: Final = 1_000_000_000
_MAX_SECONDS: Final = 31 * 24 * 3600
_PART: Final = re.compile(r"(?P<rate>.+?)(?:\s+per\s+(?P<subject>user|key|address))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rate:
    """`item` is the library's form of `60/minute`."""

    item: RateLimitItem
    subject: Subject
    name: str

    @property
    def amount(self) -> int:
        return self.item.amount

    @property
    def seconds(self) -> int:
        return self.item.get_expiry()


def rates(text: str, *, name: str, subjects: tuple[Subject, ...]) -> tuple[Rate, ...]:
    """The rates of a setting; a part that names no subject holds for each of `subjects`. `off` is none.

    Raises ValueError with a sentence for who wrote it.
    """
    if text.strip().lower() == _OFF:
        return ()
    found: list[Rate] = []
    for part in re.split(r"[,;|]", text):
        match = _PART.fullmatch(part.strip())
        item = _item(match["rate"]) if match else None
        if match is None or item is None:
            raise ValueError(f"'{part.strip()}' is no rate like 60/minute, 5/10 seconds or 1000/hour")
        wanted = Subject(match["subject"].lower()) if match["subject"] else None
        if wanted is not None and wanted not in subjects:
            raise ValueError(f"'per {wanted}' does not apply here; {' or '.join(subjects)} does")
        whose = (wanted,) if wanted else subjects
        found += [Rate(item, subject, f"{name}-{subject}") for subject in whose]
    if len(found) > _MAX_RATES:
        raise ValueError(f"more than {_MAX_RATES} rates")
    return tuple(_named_apart(found))


@lru_cache(maxsize=1000)
def own_rates(text: str) -> tuple[Rate, ...]:
    """The rates of an API key's own limit, which counts all that it does. Raises ValueError."""
    return rates(text, name="own", subjects=(Subject.KEY,))


def _item(text: str) -> RateLimitItem | None:
    try:
        item = parse(text)
    except ValueError:
        return None
    return item if 0 < item.amount <= _MAX_AMOUNT and 0 < item.get_expiry() <= _MAX_SECONDS else None


def _named_apart(found: list[Rate]) -> list[Rate]:
    """Names within one response must differ: where a subject has two rates, their windows tell them apart."""
    names = [rate.name for rate in found]
    return [
        rate
        if names.count(rate.name) == 1
        else Rate(rate.item, rate.subject, f"{rate.name}-{rate.amount}-{rate.seconds}s")
        for rate in found
    ]
