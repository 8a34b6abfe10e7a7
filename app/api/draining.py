"""The last seconds of a process: streams that do not end by themselves are ended, so that no client takes a cut for the end."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Work:
    """Something that a client waits for; `awaited` is what to cancel when the process stops."""

    __slots__ = ("awaited", "is_stopped")

    def __init__(self) -> None:
        self.awaited: asyncio.Future[Any] | None = None
        self.is_stopped = False


class Draining:
    """What is under way in one process."""

    def __init__(self) -> None:
        self._under_way: set[Work] = set()
        self._listeners: list[Callable[[bool], int]] = []
        self.is_begun = False

    def tell(self, listener: Callable[[bool], int]) -> Callable[[], None]:
        """Have it called when the process begins to stop (False) and when its time is over (True), when it says how much
        it has ended; returns what makes an end of that.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def begin(self) -> None:
        """Nothing new comes, and what is under way has its time."""
        self.is_begun = True
        for listener in tuple(self._listeners):
            listener(False)

    @contextmanager
    def work(self) -> Iterator[Work]:
        """Something that is under way for as long as the block lasts."""
        work = Work()
        self._under_way.add(work)
        try:
            yield work
        finally:
            self._under_way.discard(work)

    def stop(self) -> int:
        """End all that is under way; how much that was. Whoever awaits it finds `is_stopped` set."""
        stopped = sum(listener(True) for listener in tuple(self._listeners))
        for work in self._under_way:
            work.is_stopped = True
            if work.awaited is not None and work.awaited.cancel():
                stopped += 1
        return stopped
