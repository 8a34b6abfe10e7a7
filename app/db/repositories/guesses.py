"""Counted guesses at passwords and codes: a sliding window, so that it holds over restarts and replicas."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_RESERVE: Final = text("""
INSERT INTO guesses AS g (subject, moments) VALUES (:subject, ARRAY[clock_timestamp()])
ON CONFLICT (subject) DO UPDATE
   SET moments = ARRAY(SELECT m FROM unnest(g.moments) AS m WHERE m > clock_timestamp() - CAST(:window AS interval) ORDER BY m)
                 || excluded.moments
 WHERE (SELECT count(*) FROM unnest(g.moments) AS m WHERE m > clock_timestamp() - CAST(:window AS interval)) < :limit
RETURNING moments[array_upper(moments, 1)]
""")
_WAIT: Final = text("""
SELECT extract(epoch FROM min(m) + CAST(:window AS interval) - clock_timestamp())
  FROM guesses, unnest(moments) AS m WHERE subject = :subject AND m > clock_timestamp() - CAST(:window AS interval)
""")
_REFUND: Final = text(
    "UPDATE guesses SET moments = array_remove(moments, CAST(:moment AS timestamptz)) WHERE subject = :subject"
)
_PURGE: Final = text("""
DELETE FROM guesses WHERE subject IN (
  SELECT subject FROM guesses
   WHERE NOT EXISTS (SELECT FROM unnest(moments) AS m WHERE m > clock_timestamp() - CAST(:window AS interval))
     FOR UPDATE SKIP LOCKED)
""")


class GuessRepository:
    def __init__(self, session: AsyncSession, *, window: timedelta) -> None:
        self.session = session
        self.window = window

    async def reserve(self, subject: str, *, limit: int) -> datetime | None:
        """Count a guess and tell its moment; None when as many as the limit were made within the window."""
        moment: datetime | None = await self.session.scalar(
            _RESERVE, {"subject": subject, "limit": limit, "window": self.window}
        )
        return moment

    async def wait_seconds(self, subject: str) -> float:
        """How long until the oldest guess of the window no longer counts."""
        wait = await self.session.scalar(_WAIT, {"subject": subject, "window": self.window})
        return max(float(wait or 0), 1)

    async def refund(self, subject: str, moment: datetime) -> None:
        """Take back a guess that was right."""
        await self.session.execute(_REFUND, {"subject": subject, "moment": moment})

    async def purge(self) -> None:
        """Forget what no longer counts."""
        await self.session.execute(_PURGE, {"window": self.window})
