"""The sliding windows in memory, under a clock of the test's own."""

from types import SimpleNamespace

import pytest
from limits import parse
from limits.aio import strategies
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from app.core import windows
from app.core.windows import MemoryWindows

RATE = parse("10/minute")


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0  # the beginning of a minute

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    # Not in the module `time` itself, by which the event loop of all tests goes.
    stopped = SimpleNamespace(time=clock, monotonic=clock)
    monkeypatch.setattr(windows, "time", stopped)
    monkeypatch.setattr(strategies, "time", stopped)
    return clock


async def hits(limiter: SlidingWindowCounterRateLimiter, count: int, who: str = "a") -> int:
    return sum([await limiter.hit(RATE, who) for _ in range(count)])


async def test_a_window_takes_what_the_rate_says(clock: Clock) -> None:
    limiter = SlidingWindowCounterRateLimiter(MemoryWindows())

    assert await hits(limiter, 15) == 10
    assert await hits(limiter, 15, "b") == 10


async def test_the_window_before_weighs_less_and_less(clock: Clock) -> None:
    limiter = SlidingWindowCounterRateLimiter(MemoryWindows())
    await hits(limiter, 10)
    clock.now += 60 + 30

    assert await hits(limiter, 10) == 5
    clock.now += 60 + 60
    assert await hits(limiter, 15) == 10


async def test_after_the_time_that_is_told_one_more_passes(clock: Clock) -> None:
    limiter = SlidingWindowCounterRateLimiter(MemoryWindows())
    await hits(limiter, 10)
    clock.now += 75
    await hits(limiter, 10)
    reset, remaining = await limiter.get_window_stats(RATE, "a")

    assert remaining == 0
    assert not await limiter.hit(RATE, "a")
    clock.now = reset + 0.001
    assert await limiter.hit(RATE, "a")


async def test_what_is_over_is_forgotten(clock: Clock) -> None:
    storage = MemoryWindows()
    limiter = SlidingWindowCounterRateLimiter(storage)
    for number in range(500):
        await limiter.hit(RATE, str(number))
    clock.now += 200
    await limiter.hit(RATE, "new")

    assert await storage.reset() == 1


async def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_MAX_KEYS", 100)
    storage = MemoryWindows()
    limiter = SlidingWindowCounterRateLimiter(storage)
    for number in range(1000):
        assert await limiter.hit(RATE, str(number))

    assert await storage.reset() == 100
