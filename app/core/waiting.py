"""Waiting for something to happen, for some time."""

import asyncio


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
