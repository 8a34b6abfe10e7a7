"""How far a long command is: a bar on a terminal, now and then a line elsewhere; always on standard error."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from app.cli import terminal

_MOST_SHOWN: Final = 12
_NAME_CHARACTERS: Final = 32
_SECONDS_BETWEEN_LINES: Final = 10.0


class Display(Protocol):
    def advance(self, size_bytes: int) -> None:
        """A document of so many bytes is done."""

    def show(self, source: str, share: float | None) -> None:
        """A document that takes longer is so far, from 0 to 1; None: it need not be shown any more."""


@contextmanager
def showing(total_bytes: int) -> Iterator[Display]:
    """Show the progress for as long as the block lasts: of everything, and of each document that takes longer."""
    console = terminal.notes()
    if not console.is_terminal:
        yield _Lines(total_bytes)
        return
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        BarColumn(bar_width=None),
        _DetailsColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        expand=True,
    )
    with bars:
        yield _Bars(bars, total_bytes)


class _Bars:
    """For people: a bar for all, and one for each of the first dozen under way."""

    def __init__(self, bars: Progress, total_bytes: int) -> None:
        self._bars = bars
        self._documents = 0
        self._all = bars.add_task("", total=total_bytes or None, documents=0)
        self._files: dict[str, TaskID] = {}

    def advance(self, size_bytes: int) -> None:
        self._documents += 1
        self._bars.update(self._all, advance=size_bytes, documents=self._documents)

    def show(self, source: str, share: float | None) -> None:
        task = self._files.get(source)
        if share is None:
            if task is not None:
                self._bars.remove_task(self._files.pop(source))
        elif task is not None:
            self._bars.update(task, completed=share)
        elif len(self._files) < _MOST_SHOWN:
            name = terminal.printable(source)
            short = name if len(name) <= _NAME_CHARACTERS else f"…{name[1 - _NAME_CHARACTERS :]}"
            self._files[source] = self._bars.add_task(short, total=1.0)
            self._bars.update(self._files[source], completed=share)


class _DetailsColumn(ProgressColumn):
    """A document's name; of all of them, how many there are."""

    def render(self, task: Task) -> Text:
        if task.description:
            return Text(task.description)
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

    def show(self, source: str, share: float | None) -> None:
        """Not in a log."""

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
