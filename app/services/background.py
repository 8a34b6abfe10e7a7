"""Work that nobody waits for: done soon after what it follows, dropped when too much of it waits, cancelled at the end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from app.core.errors import AppError

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 4
_MOST_WAITING: Final = 200


class Background:
    """That of one process."""

    def __init__(self, *, at_once: int = _AT_ONCE, most_waiting: int = _MOST_WAITING) -> None:
        self._room = asyncio.Semaphore(at_once)
        self._most = at_once + most_waiting
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> bool:
        """Have it done soon; False when there is too much of it, or no more time."""
        if self._closed or len(self._tasks) >= self._most:
            return False
        task = asyncio.create_task(self._do(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def settled(self) -> None:
        """Wait until nothing is left to do."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """Cancel what is left, and begin nothing more."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _do(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        async with self._room:
            try:
                await work()
            except AppError as error:  # the provider or the database is away: it was worth a try
                log.info("background_work_dropped", work=name, reason=error.code)
            except Exception as error:  # the top of a task that nobody awaits
                log.error("background_work_failed", work=name, exc_info=error)
