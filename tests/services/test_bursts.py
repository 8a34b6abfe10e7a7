"""Counting in Redis, over its own protocol on a socket; and what happens when it goes away and comes back."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fakeredis import TcpFakeServer
from structlog.testing import capture_logs

from app.core.errors import RateLimited
from app.core.rates import Rate, Subject, rates
from app.services import bursts
from app.services.bursts import Counters
from tests.test_process import free_port

RATES = rates("5/hour per key", name="chat", subjects=tuple(Subject))
SOMEBODY = {Subject.KEY: "key_1"}


@contextmanager
def redis(port: int) -> Iterator[TcpFakeServer]:
    server = TcpFakeServer(("127.0.0.1", port), server_type="redis")
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def taken(counters: Counters, count: int, limits: tuple[Rate, ...] = RATES) -> int:
    passed = 0
    for _ in range(count):
        try:
            await counters.take(limits, SOMEBODY)
            passed += 1
        except RateLimited:
            pass
    return passed


async def test_two_processes_count_together() -> None:
    port = free_port()
    with redis(port):
        one, two = Counters(f"redis://127.0.0.1:{port}/0"), Counters(f"redis://127.0.0.1:{port}/0")
        passed = await taken(one, 3), await taken(two, 3), await taken(one, 1)
        await one.aclose()
        await two.aclose()

    assert passed == (3, 2, 0)


async def test_what_is_left_comes_from_redis_too() -> None:
    port = free_port()
    with redis(port):
        counters = Counters(f"redis://127.0.0.1:{port}/0")
        quotas = await counters.take(RATES, SOMEBODY)
        await counters.aclose()

    assert [(quota.remaining, quota.rate.name) for quota in quotas] == [(4, "chat-key")]
    assert 0 < quotas[0].reset_seconds <= 2 * 3600


async def test_without_redis_each_process_counts_for_itself_and_says_so_once() -> None:
    counters = Counters(f"redis://127.0.0.1:{free_port()}/0")
    with capture_logs() as logs:
        assert await taken(counters, 8) == 5

    assert [(line["event"], line["log_level"]) for line in logs] == [("redis_unreachable", "warning")]


async def test_a_redis_that_comes_back_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bursts, "_REDIS_PAUSE_SECONDS", 0.0)
    port = free_port()
    with capture_logs() as logs:
        with redis(port):
            counters = Counters(f"redis://127.0.0.1:{port}/0")
            assert await taken(counters, 1) == 1
            await counters.aclose()
        assert await taken(counters, 7) == 5
        with redis(port):
            other = Counters(f"redis://127.0.0.1:{port}/0")
            assert (await taken(counters, 4), await taken(other, 4)) == (4, 1)
            await other.aclose()
        await counters.aclose()

    assert [line["event"] for line in logs] == ["redis_unreachable", "redis_reachable_again"]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:notaport", "http://127.0.0.1"])
def test_what_is_no_redis_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Counters(url)


async def test_without_a_subject_nothing_is_counted() -> None:
    nobody: dict[Subject, Any] = {}

    assert await Counters().take(RATES, nobody) == []
