"""Whoever waits for an event can be cancelled at any moment."""

import asyncio

from app.core import waiting


async def test_waiting_ends_with_the_event_or_with_the_time() -> None:
    event = asyncio.Event()
    assert not await waiting.happened(event, 0.01)
    event.set()
    assert await waiting.happened(event, 3600)


async def test_a_loop_that_is_cancelled_in_the_moment_of_its_event_ends() -> None:
    event = asyncio.Event()

    async def loop() -> None:
        while True:
            await waiting.happened(event, 3600)
            event.clear()

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    event.set()
    await asyncio.sleep(0)  # its future is done, and it has not gone on yet
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)

    task.cancel()
    assert done and task.cancelled()
