"""Where whoever stores chunks takes a place first: few do so at once, and they help a rebuild that falls behind them."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final

_STEADY_SECONDS: Final = 1.0
"""Less time between two looks says nothing of whether a rebuild gets on."""


@dataclass(frozen=True, slots=True)
class Lag:
    """A rebuild that gets on, and how many documents it lacks."""

    number: int
    documents: int


class Room:
    """Places for those who store chunks, to be taken before a connection to the database.

    A rebuild that lacks no fewer documents than it did a moment ago may never end: they come as fast as they are built. Until it
    has ended, everybody builds one document for it before storing another, so that it lacks no more for being stored into.
    """

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._lag: Lag | None = None
        self._looked_at = 0.0
        self.is_behind = False
        """Whether there is a rebuild that needs help."""
        self.help: Callable[[], Awaitable[None]] | None = None
        """Builds one document for the rebuild. Raises nothing."""

    def look(self, lag: Lag | None) -> None:
        """Take note of how far the rebuild is; None where there is none, or it is held up by something else."""
        now = time.monotonic()
        if lag is None or self._lag is None or lag.number != self._lag.number:
            self.is_behind, self._lag, self._looked_at = False, lag, now
        elif now - self._looked_at >= _STEADY_SECONDS:
            self.is_behind = self.is_behind or lag.documents >= max(1, self._lag.documents)
            self._lag, self._looked_at = lag, now

    async def __aenter__(self) -> None:
        await self._places.acquire()
        try:
            if self.is_behind and self.help is not None:
                await self.help()
        except BaseException:
            self._places.release()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._places.release()
