"""What a benchmark found: figures against their goals, and the tables that they come from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

Cell = str | int | float


class Skipped(Exception):
    """A benchmark can't run here; the message says why."""


class Failed(Exception):
    """A benchmark could not finish; the message says what to look at."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number; without a goal it is for information."""

    name: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def passed(self) -> bool | None:
        """None where there is no goal."""
        if self.at_most is not None:
            return self.value <= self.at_most
        if self.at_least is not None:
            return self.value >= self.at_least
        return None

    @property
    def goal(self) -> str:
        if self.at_most is not None:
            return f"≤ {number(self.at_most)} {self.unit}".strip()
        if self.at_least is not None:
            return f"≥ {number(self.at_least)} {self.unit}".strip()
        return ""


@dataclass(frozen=True, slots=True)
class Details:
    """A table of what was measured on the way."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Report:
    """All that one benchmark found."""

    name: str
    figures: list[Figure] = field(default_factory=list)
    details: list[Details] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        figures = [asdict(figure) | {"passed": figure.passed} for figure in self.figures]
        return asdict(self) | {"figures": figures}


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 100) percent of the values do not pass; NaN of nothing."""
    return float(np.percentile(values, share)) if values else float("nan")


def number(value: Cell) -> str:
    """As many digits as a noisy machine deserves."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def show(report: Report, console: Console) -> None:
    """Print the tables of a benchmark, its figures last."""
    for details in report.details:
        table = Table(title=details.title, title_justify="left", title_style="italic")
        for place, column in enumerate(details.columns):
            table.add_column(column, justify="left" if place == 0 else "right")
        for row in details.rows:
            table.add_row(*map(number, row))
        console.print(table)
    table = Table(title=f"{report.name}: figures", title_justify="left", title_style="bold")
    for column in ("figure", "measured", "goal", ""):
        table.add_column(column, justify="left" if column in ("figure", "") else "right")
    verdicts = {True: "[green]pass[/green]", False: "[red]miss[/red]", None: ""}
    for figure in report.figures:
        measured = f"{number(figure.value)} {figure.unit}".strip()
        table.add_row(figure.name, measured, figure.goal, verdicts[figure.passed])
    console.print(table)
    for note in report.notes:
        console.print(f"  {note}", style="dim", highlight=False)
