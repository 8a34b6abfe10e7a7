"""How far a long command is: a bar on a terminal, now and then a line elsewhere; always on standard error."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from app.cli import terminal

Advance = Callable[[int], None]
_SECONDS_BETWEEN_LINES: Final = 10.0


@contextmanager
def showing(total_bytes: int) -> Iterator[Advance]:
    """Show the progress for as long as the block lasts; call what it gives with the bytes of each document done."""
    console = terminal.notes()
    if not console.is_terminal:
        yield _Lines(total_bytes).advance
        return
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        BarColumn(bar_width=None),
        _DocumentsColumn(),
        TextColumn("about"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
        expand=True,
    )
    with progress:
        task = progress.add_task("", total=total_bytes or None, documents=0)
        documents = 0

        def advance(size_bytes: int) -> None:
            nonlocal documents
            documents += 1
            progress.update(task, advance=size_bytes, documents=documents)

        yield advance


class _DocumentsColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        documents: int = task.fields["documents"]
        rate = documents / task.elapsed if task.elapsed else 0
        return Text(f"{documents:,} documents, {rate:,.0f}/s")


class _Lines:
    """For logs: a line every ten seconds."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._documents = 0
        self._done_bytes = 0
        self._started = self._last = time.monotonic()

    def advance(self, size_bytes: int) -> None:
        self._documents += 1
        self._done_bytes += size_bytes
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        share = min(self._done_bytes / self._total_bytes, 1) if self._total_bytes else 0
        elapsed = now - self._started
        left = f", about {elapsed / share - elapsed:,.0f} s left" if share else ""
        rate = self._documents / elapsed
        terminal.notes().print(f"{self._documents:,} documents ({share:.0%}), {rate:,.0f}/s{left}")
