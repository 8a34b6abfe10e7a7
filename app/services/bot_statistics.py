"""How a bot does: turns, refusals, tokens, cost and latency, in all, by day and by version."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from app.core import clock
from app.core.errors import BotNotFound, InvalidRange
from app.core.principal import Principal
from app.db.engine import Transaction
from app.db.repositories.bot_statistics import BotStatisticsRepository, Statistics
from app.db.repositories.bots import BotRepository
from app.services import access

_DEFAULT_DAYS: Final = 30
_MOST_DAYS: Final = 366


@dataclass(frozen=True, slots=True)
class Period:
    """Days of UTC, the last one included."""

    since: date
    until: date


async def of_bot(
    session: Transaction, principal: Principal, bot_id: str, *, since: date | None, until: date | None
) -> tuple[Period, Statistics]:
    """Of the last thirty days, unless said otherwise. Raises AdminsOnly, BotNotFound and InvalidRange."""
    access.require_admin(principal)
    period = _period(since, until)
    if await BotRepository(session, principal).find(bot_id) is None:
        raise BotNotFound
    found = await BotStatisticsRepository(session, principal).counts(
        bot_id, since=_midnight(period.since), until=_midnight(period.until) + timedelta(days=1)
    )
    return period, found


def _period(since: date | None, until: date | None) -> Period:
    last = until or clock.now().date()
    try:
        first = since or last - timedelta(days=_DEFAULT_DAYS - 1)
        _midnight(last) + timedelta(days=1)
    except OverflowError:
        raise InvalidRange("The days are out of the calendar.") from None
    days = (last - first).days + 1
    if not 1 <= days <= _MOST_DAYS:
        raise InvalidRange(f"From `since` to `until` there must be 1 to {_MOST_DAYS} days.")
    return Period(first, last)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
