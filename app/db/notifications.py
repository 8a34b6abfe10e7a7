"""One connection of a process that listens, for everybody in it who waits for a change.

A notification is a hint: after a lost connection everybody is woken, and whoever waits looks again now and then anyway.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core import waiting
from app.core.errors import AppError
from app.db.engine import Database, translated_errors

log = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 10.0
_CHECK_SECONDS: Final = 30.0


class Listener:
    """Wakes who watches a channel, or one name on it."""

    def __init__(self, channels: tuple[str, ...]) -> None:
        self._channels = channels
        self._watchers: defaultdict[tuple[str, str], set[asyncio.Event]] = defaultdict(set)
        self.is_listening = False
        """Whether notifications arrive, as far as is known."""
        self._hearers: defaultdict[str, list[Callable[[str], None]]] = defaultdict(list)

    @contextmanager
    def watching(self, channel: str, *names: str) -> Iterator[asyncio.Event]:
        """An event that is set by each notification of one of the names, or of none; whoever waits for it clears it."""
        event = asyncio.Event()
        keys = {(channel, name) for name in names or ("",)}
        for key in keys:
            self._watchers[key].add(event)
        try:
            yield event
        finally:
            for key in keys:
                self._watchers[key].discard(event)
                if not self._watchers[key]:
                    del self._watchers[key]

    @contextmanager
    def hearing(self, channel: str, heard: Callable[[str], None]) -> Iterator[None]:
        """Call `heard` with what each notification of the channel says."""
        self._hearers[channel].append(heard)
        try:
            yield
        finally:
            self._hearers[channel].remove(heard)

    def notify(self, channel: str, name: str = "") -> None:
        for heard in self._hearers.get(channel, ()):
            heard(name)
        for event in self._watchers.get((channel, name), ()):
            event.set()

    def wake_all(self) -> None:
        for events in self._watchers.values():
            for event in events:
                event.set()

    @asynccontextmanager
    async def running(self, database: Database) -> AsyncIterator[None]:
        """Listen for as long as the block lasts."""
        task = asyncio.create_task(self._forever(database), name="listener")
        try:
            yield
        finally:
            await waiting.cancelled(task)

    async def _forever(self, database: Database) -> None:
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._listen(database)
                pause_seconds = _FIRST_PAUSE_SECONDS
            except (AppError, SQLAlchemyError, OSError, TimeoutError) as error:
                log.debug("listener_reconnects", reason=type(error).__name__)
                pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause_seconds)

    async def _listen(self, database: Database) -> None:
        """Until the connection is lost. It is none of the pool's: it stays here for as long as the process does."""
        lost = asyncio.Event()
        with translated_errors():
            async with database.engine.connect() as connection:
                raw = await connection.get_raw_connection()
                driver: Any = raw.driver_connection
                raw.detach()
                driver.add_termination_listener(lambda _: lost.set())
                for channel in self._channels:
                    await driver.add_listener(channel, self._received)
                self.wake_all()
                self.is_listening = True
                try:
                    while not driver.is_closed() and not lost.is_set():
                        await waiting.happened(lost, _CHECK_SECONDS)
                finally:
                    self.is_listening = False
                    if not driver.is_closed():
                        driver.terminate()

    def _received(self, _: Any, __: int, channel: str, payload: str) -> None:
        self.notify(channel, payload)
