"""Limits of bursts: counted in memory for each process, or in Redis for all of them together.

They keep one caller from taking the service from the others, and are no defence of passwords: that is `guesses`. So a
Redis that is away is no reason to refuse anybody: until it is back, each process counts for itself.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from limits.aio.storage import Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError

from app.core.errors import RateLimited
from app.core.rates import Rate, Subject
from app.core.windows import MemoryWindows

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

log = structlog.get_logger(__name__)

_REDIS_TIMEOUT_SECONDS: Final = 0.5
_REDIS_PAUSE_SECONDS: Final = 10.0
_UNREACHABLE: Final = (StorageError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of a rate to somebody. `reset_seconds` is when more of it is."""

    rate: Rate
    remaining: int
    reset_seconds: float


class Counters:
    """Where it is counted who has done what how often."""

    def __init__(self, redis_url: str | None = None) -> None:
        """Nothing connects yet. Raises ValueError when that is no URL of a Redis."""
        self._memory = SlidingWindowCounterRateLimiter(MemoryWindows())
        self._redis: SlidingWindowCounterRateLimiter | None = None
        self._connections: ConnectionPool | None = None
        if redis_url is not None:
            self._connections = _connections(redis_url)
            self._redis = SlidingWindowCounterRateLimiter(_storage(redis_url, self._connections))
        self._redis_again_at = 0.0

    async def take(self, rates: Sequence[Rate], who: Mapping[Subject, str]) -> list[Quota]:
        """Count one deed of somebody against every rate whose subject is known of them.

        Raises RateLimited at the first rate that is used up, with the quotas looked at as its `quotas`.
        """
        quotas = []
        for rate in rates:
            if (subject := who.get(rate.subject)) is None:
                continue
            allowed, quota = await self._take(rate, subject)
            quotas.append(quota)
            if not allowed:
                raise _refusal(quotas)
        return quotas

    async def _take(self, rate: Rate, subject: str) -> tuple[bool, Quota]:
        if self._redis is not None and time.monotonic() >= self._redis_again_at:
            try:
                taken = await _taken(self._redis, rate, subject)
            except _UNREACHABLE as error:
                if not self._redis_again_at:
                    log.warning("redis_unreachable", counting="in memory", reason=type(error).__name__)
                self._redis_again_at = time.monotonic() + _REDIS_PAUSE_SECONDS
            else:
                if self._redis_again_at:
                    log.info("redis_reachable_again")
                    self._redis_again_at = 0.0
                return taken
        return await _taken(self._memory, rate, subject)

    async def aclose(self) -> None:
        """Close what is open."""
        if self._connections is not None:
            await self._connections.aclose()


async def _taken(limiter: SlidingWindowCounterRateLimiter, rate: Rate, subject: str) -> tuple[bool, Quota]:
    allowed = await limiter.hit(rate.item, rate.name, subject)
    stats = await limiter.get_window_stats(rate.item, rate.name, subject)
    return allowed, Quota(rate, stats.remaining if allowed else 0, max(0.0, stats.reset_time - time.time()))


def _refusal(quotas: list[Quota]) -> RateLimited:
    used_up = quotas[-1]
    rate = used_up.rate
    return RateLimited(
        f"More than {rate.amount} requests in {rate.seconds} s per {rate.subject}; slow down and try again.",
        details={"limit": rate.amount, "window_seconds": rate.seconds, "per": rate.subject},
        retry_after_seconds=max(1.0, used_up.reset_seconds),
        quotas=tuple(quotas),
    )


def _connections(url: str) -> "ConnectionPool":
    from redis.asyncio import ConnectionPool  # four megabytes, which most services have no use for
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return ConnectionPool.from_url(
        url,
        socket_timeout=_REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=_REDIS_TIMEOUT_SECONDS,
        retry=Retry(
            NoBackoff(), retries=1
        ),  # a connection that broke while idle; by default it waits for seconds
    )


def _storage(url: str, connections: "ConnectionPool") -> Storage:
    from limits.aio.storage import RedisStorage

    return RedisStorage(
        f"async+{url}",
        implementation="redispy",
        key_prefix="ibid",
        wrap_exceptions=True,
        connection_pool=connections,  # type: ignore[arg-type]  # as its documentation says
    )
