"""What became of the documents of one `ibid ingest`, and how that is told."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from rich.table import Table

from app.cli import terminal
from app.core.errors import AppError

_MOST_SKIPPED: Final = 20
_MOST_FAILED: Final = 100
"""Lines; the rest is counted, and all of them are in `--json`."""


class Outcome(StrEnum):
    INDEXED = "indexed"
    ALREADY_THERE = "already_there"
    READABLE = "readable"
    """What a dry run would ingest."""
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one document; `reason` when it was skipped, `error` when it failed."""

    source: str
    outcome: Outcome
    size_bytes: int = 0
    document_id: str | None = None
    title: str | None = None
    chunks: int = 0
    encoding: str | None = None
    reason: str | None = None
    error: AppError | None = None

    def as_json(self) -> dict[str, Any]:
        error = self.error
        return {
            "source": self.source,
            "status": self.outcome,
            "document_id": self.document_id,
            "title": self.title,
            "chunks": self.chunks,
            "encoding": self.encoding,
            "reason": terminal.sentence(error) if error else self.reason,
            "error_code": error.code if error else None,
        }


@dataclass(slots=True)
class Tally:
    """The results so far; every one of them is kept only where all will be printed."""

    keep_all: bool
    counts: Counter[Outcome] = field(default_factory=Counter)
    chunks: int = 0
    guessed: Counter[str] = field(default_factory=Counter)
    remarkable: list[Result] = field(default_factory=list)
    all: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    stopped_by: AppError | None = None

    def add(self, result: Result) -> None:
        self.counts[result.outcome] += 1
        if result.outcome is Outcome.INDEXED:
            self.chunks += result.chunks
        if result.encoding and not result.encoding.startswith("utf"):
            self.guessed[result.encoding] += 1
        if result.outcome in (Outcome.SKIPPED, Outcome.FAILED):
            self.remarkable.append(result)
        if self.keep_all:
            self.all.append(result)

    @property
    def is_complete(self) -> bool:
        """Whether every document that was found is searchable now."""
        return not (self.counts[Outcome.FAILED] or self.interrupted or self.stopped_by)

    @property
    def documents_per_second(self) -> float:
        done = self.counts[Outcome.INDEXED] + self.counts[Outcome.ALREADY_THERE]
        return done / self.seconds if self.seconds else 0.0

    def as_json(self, *, dry_run: bool) -> dict[str, Any]:
        return {
            "dry_run": dry_run,
            **{outcome.value: self.counts[outcome] for outcome in Outcome},
            "chunks": self.chunks,
            "seconds": round(self.seconds, 3),
            "documents_per_second": round(self.documents_per_second, 1),
            "interrupted": self.interrupted,
            "stopped_by": terminal.sentence(self.stopped_by) if self.stopped_by else None,
            "documents": [result.as_json() for result in self.all],
        }

    def table(self, *, dry_run: bool) -> Table:
        counts = self.counts
        cells = {"skipped": f"{counts[Outcome.SKIPPED]:,}", "failed": f"{counts[Outcome.FAILED]:,}"}
        if dry_run:
            cells = {"would be ingested": f"{counts[Outcome.READABLE]:,}"} | cells
        else:
            cells = {
                "indexed": f"{counts[Outcome.INDEXED]:,}",
                "already there": f"{counts[Outcome.ALREADY_THERE]:,}",
                **cells,
                "chunks": f"{self.chunks:,}",
                "seconds": f"{self.seconds:,.1f}",
                "docs/s": f"{self.documents_per_second:,.1f}",
            }
        table = Table()
        for name in cells:
            table.add_column(name, justify="right")
        table.add_row(*cells.values())
        return table

    def remarks(self) -> list[str]:
        """A line for each document that was skipped or failed, with the reason; then what else should be known."""
        skipped = [f"skipped {r.source}: {r.reason}" for r in self.remarkable if r.error is None]
        failed = [f"failed {r.source}: {terminal.sentence(r.error)}" for r in self.remarkable if r.error]
        lines = [*_bounded(skipped, _MOST_SKIPPED), *_bounded(failed, _MOST_FAILED)]
        if self.guessed:
            guesses = ", ".join(f"{count:,} as {name}" for name, count in sorted(self.guessed.items()))
            lines.append(
                f"Not Unicode, so read as their letters suggest: {guesses}. UTF-8 would make it certain."
            )
        if self.stopped_by:
            lines.append(f"Stopped: {terminal.sentence(self.stopped_by)}")
        if self.interrupted:
            lines.append("Interrupted.")
        if self.stopped_by or self.interrupted:
            lines.append("What is done stays. Run the same command again to go on with the rest.")
        return lines


def _bounded(lines: Sequence[str], most: int) -> list[str]:
    if len(lines) <= most:
        return list(lines)
    return [*lines[:most], f"… and {len(lines) - most:,} more; --json lists all of them"]
