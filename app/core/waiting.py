"""Waiting for something to happen, and for what is to end."""

import asyncio
from typing import Any


async def happened(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event; False when it takes longer.

    Not `asyncio.wait_for`: before Python 3.12 a task that is cancelled in the moment in which the event happens goes on as if nobody
    had cancelled it, and whoever waits for its end waits for ever.
    """
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def cancelled(task: asyncio.Task[Any], *, again_seconds: float = 10.0) -> None:
    """Cancel a task and wait for its end. Raises what it raised.

    It is cancelled again where it goes on: a cancellation in the middle of a transaction may come out as the failure of a connection,
    and a loop that is told of a failure tries again.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=again_seconds)
    if not task.cancelled():
        task.result()
