"""`ibid worker`: process documents, without an API."""

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import terminal

if TYPE_CHECKING:  # they take seconds, which `ibid --help` need not wait for
    from app.core.config import Settings


def worker(
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=64, metavar="N", help="Documents at a time (setting WORKER_CONCURRENCY)."),
    ] = None,
) -> None:
    """Process uploaded documents. Any number of workers, on any number of machines, share the work."""
    settings = terminal.load_settings()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from app.core import logging

    logging.configure(level=settings.log_level, log_format=settings.log_format)
    terminal.run(lambda: _work(settings, concurrency or settings.worker_concurrency or 3))


async def _work(settings: "Settings", concurrency: int) -> None:
    from app.opening import open_database, open_runtime
    from app.worker import running

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with (
        open_database(settings) as database,
        open_runtime(settings, database) as runtime,
        running(runtime, concurrency=concurrency, drain_seconds=settings.shutdown_timeout_seconds),
    ):
        terminal.notes().print(f"Ibid works on up to {concurrency} documents at a time. Ctrl-C stops it.")
        await stopped.wait()
        terminal.notes().print("Finishing what has begun …")
