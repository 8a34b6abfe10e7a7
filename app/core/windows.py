"""Counters of a sliding window in this process's memory, for the strategies of the library `limits`.

The library's own memory storage starts a task that walks through all keys at each hit. This one touches the key alone,
and forgets what is over now and then.
"""

import time
from typing import Final

from limits.aio.storage import SlidingWindowCounterSupport, Storage

_MAX_KEYS: Final = 100_000
_SWEEP_SECONDS: Final = 60.0
_SLIDING_ONLY: Final = "sliding windows alone are counted here"


class _Window:
    """What was counted in the window `index` (of all windows since 1970) and in the one before."""

    __slots__ = ("current", "expiry", "index", "previous")

    def __init__(self, expiry: int, index: int) -> None:
        self.expiry, self.index = expiry, index
        self.previous = self.current = 0

    def move_to(self, index: int) -> None:
        if index != self.index:
            self.previous = self.current if index == self.index + 1 else 0
            self.current, self.index = 0, index


class MemoryWindows(Storage, SlidingWindowCounterSupport):
    """At most 100,000 keys; past that the ones first seen are forgotten."""

    STORAGE_SCHEME = ["ibid-memory"]  # noqa: RUF012 as the library declares it

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[str, _Window] = {}
        self._swept_at = time.monotonic()

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        window, passed = self._window(key, expiry)
        if int(window.previous * (1 - passed) + window.current) + amount > limit:
            return False
        window.current += amount
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Counts of the previous and the present window, each with the seconds until it no longer matters."""
        window, passed = self._window(key, expiry)
        left = (1 - passed) * expiry
        return window.previous, left, window.current, left + expiry

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        self._windows.pop(key, None)

    def _window(self, key: str, expiry: int) -> tuple[_Window, float]:
        """The window of a key, brought to now, and the share of it that has passed."""
        position = time.time() / expiry
        index = int(position)
        window = self._windows.get(key)
        if window is None:
            self._make_room()
            window = self._windows[key] = _Window(expiry, index)
        else:
            window.move_to(index)
        return window, position - index

    def _make_room(self) -> None:
        now = time.monotonic()
        if now - self._swept_at > _SWEEP_SECONDS:
            self._swept_at = now
            moment = time.time()
            over = [key for key, w in self._windows.items() if moment / w.expiry >= w.index + 2]
            for key in over:
                del self._windows[key]
        while len(self._windows) >= _MAX_KEYS:
            del self._windows[next(iter(self._windows))]

    # --- What the library asks of every storage and only its other strategies, which nobody here uses, would call ---

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        raise NotImplementedError(_SLIDING_ONLY)

    async def get(self, key: str) -> int:
        raise NotImplementedError(_SLIDING_ONLY)

    async def get_expiry(self, key: str) -> float:
        raise NotImplementedError(_SLIDING_ONLY)

    async def check(self) -> bool:
        return True

    async def reset(self) -> int:
        forgotten = len(self._windows)
        self._windows.clear()
        return forgotten

    async def clear(self, key: str) -> None:
        self._windows.pop(key, None)
