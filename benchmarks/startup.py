"""How soon the service is there and how much memory it takes while nobody asks: local model and remote provider."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.processes import service, simulator, workspace
from benchmarks.report import Details, Figure, Report, Skipped

_SETTLING_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Start:
    """A first start, the next one, and what the process needs then."""

    first_seconds: float
    next_seconds: float
    next_cpu_seconds: float
    idle_mb: float


def run(*, quick: bool) -> Report:
    report = Report("startup")
    rounds = 1 if quick else 3
    table = Details(
        "Seconds to /health 200 and CPU of the API process; PostgreSQL is apart",
        ("mode", "first s", "next s", "next CPU s", "idle MB"),
    )
    report.details.append(table)
    with workspace() as folder:
        try:
            with simulator(folder) as provider:
                remote = {"OPENAI_API_KEY": "sk-benchmark", "OPENAI_BASE_URL": f"{provider.url}/v1"}
                starts = [_start(folder / f"remote{number}", remote) for number in range(rounds)]
            _report(report, table, "remote provider", starts, most_mb=200)
        except Skipped as reason:
            report.notes.append(f"without a remote provider: {reason}")
        starts = [_start(folder / f"local{number}", {}) for number in range(rounds)]
        _report(report, table, "local model", starts, most_mb=400)
    return report


def _start(folder: Path, settings: dict[str, str]) -> Start:
    """Start twice on a data directory that is new the first time."""
    folder.mkdir()
    settings = {**settings, "DATA_DIR": str(folder / "data")}
    with service(settings, folder) as server:
        first_seconds = server.started_in_seconds
    with service(settings, folder) as server:
        cpu_seconds = server.cpu_seconds()
        time.sleep(_SETTLING_SECONDS)
        return Start(first_seconds, server.started_in_seconds, cpu_seconds, server.rss_mb())


def _report(report: Report, table: Details, mode: str, starts: list[Start], *, most_mb: float) -> None:
    table.rows.extend((mode, s.first_seconds, s.next_seconds, s.next_cpu_seconds, s.idle_mb) for s in starts)
    first = min(start.first_seconds for start in starts)  # the calmest: other work only ever adds
    following = min(start.next_seconds for start in starts)
    report.figures.extend(
        [
            Figure(f"first start, {mode}", first, "s", at_most=12),
            Figure(f"next start, {mode}", following, "s", at_most=6),
            Figure(
                f"idle memory of the API process, {mode}",
                max(s.idle_mb for s in starts),
                "MB",
                at_most=most_mb,
            ),
        ]
    )
