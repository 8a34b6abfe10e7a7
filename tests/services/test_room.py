"""Whoever stores chunks helps a rebuild that lacks no fewer documents than a moment ago, until it has ended."""

import asyncio

import pytest

from app.services import room
from app.services.room import Lag, Room


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(room, "time", clock)
    return clock


def looked(place: Room, clock: Clock, *lags: Lag | None) -> bool:
    for lag in lags:
        clock.now += 2
        place.look(lag)
    return place.is_behind


def test_a_rebuild_that_gets_on_needs_no_help(clock: Clock) -> None:
    assert not looked(Room(1), clock, Lag(1, 900), Lag(1, 700), Lag(1, 699))
    assert not looked(Room(1), clock, Lag(1, 0), Lag(1, 0))


def test_one_that_does_not_get_on_is_helped_until_it_has_ended(clock: Clock) -> None:
    place = Room(1)
    assert looked(place, clock, Lag(1, 50), Lag(1, 50))
    assert looked(place, clock, Lag(1, 20))
    assert not looked(place, clock, None)
    assert not looked(place, clock, Lag(2, 50))


def test_two_looks_at_once_say_nothing(clock: Clock) -> None:
    place = Room(1)
    looked(place, clock, Lag(1, 50))
    place.look(Lag(1, 60))
    assert not place.is_behind


async def test_a_place_is_given_back_also_where_who_helps_is_cancelled(clock: Clock) -> None:
    place = Room(1)
    helped = []

    async def help_once() -> None:
        helped.append(1)
        await asyncio.sleep(0 if len(helped) > 1 else 3600)

    place.help = help_once
    looked(place, clock, Lag(1, 5), Lag(1, 6))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), place:
            pass
    async with asyncio.timeout(60), place:
        assert len(helped) == 2
