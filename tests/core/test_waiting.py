"""Whoever waits for an event can be cancelled at any moment."""

import asyncio

import pytest

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


async def test_a_loop_that_takes_its_cancellation_for_a_failure_ends_all_the_same() -> None:
    failures = []

    async def loop() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                failures.append(1)
                if len(failures) > 1:
                    raise

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await waiting.cancelled(task, again_seconds=0.01)

    assert task.cancelled()


async def test_what_a_task_raised_before_its_end_is_raised() -> None:
    async def fail() -> None:
        raise OSError("gone")

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="gone"):
        await waiting.cancelled(task)
