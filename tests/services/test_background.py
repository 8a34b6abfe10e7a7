"""Work that nobody waits for."""

import asyncio

from app.core.errors import ProviderUnavailable
from app.services.background import Background


async def test_so_much_is_done_at_once_and_what_is_too_much_is_dropped() -> None:
    background = Background(at_once=2, most_waiting=1)
    running, gate = 0, asyncio.Event()

    async def work() -> None:
        nonlocal running
        running += 1
        await gate.wait()

    taken = [background.start(work, name="test") for _ in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert taken == [True, True, True, False]
    assert running == 2
    gate.set()
    await background.settled()
    assert running == 3


async def test_what_fails_is_nobodys_concern() -> None:
    background = Background(at_once=1)
    done = False

    async def away() -> None:
        raise ProviderUnavailable

    async def broken() -> None:
        raise RuntimeError("broken")

    async def well() -> None:
        nonlocal done
        done = True

    for work in (away, broken, well):
        assert background.start(work, name="test")
    await background.settled()

    assert done
    assert len(background) == 0


async def test_at_the_end_all_is_cancelled_and_nothing_more_is_begun() -> None:
    background = Background()
    cancelled = False

    async def endless() -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    background.start(endless, name="test")
    await asyncio.sleep(0)
    await background.aclose()

    assert cancelled
    assert not background.start(endless, name="test")
