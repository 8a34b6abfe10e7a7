"""Many open streams on one process: memory above idle, errors, and whether the process still answers everybody else."""

import itertools
import threading
from dataclasses import dataclass
from typing import Final

from benchmarks import chat, corpus, layouts
from benchmarks.load import PRODUCT_STREAM, HealthProbe, Load, Outcome, drive
from benchmarks.processes import Server, control, simulator, workspace
from benchmarks.report import Details, Figure, Report, percentile

_TOKENS_PER_SECOND: Final = 20
_SAMPLE_SECONDS: Final = 0.2
_WARM_UP: Final = 32
_QUESTIONS: Final = 100
_MOST_MB_ABOVE_IDLE: Final = 300
_MOST_HEALTH_MS: Final = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """So many streams, begun over `ramp_seconds`, of so many tokens each."""

    streams: int
    tokens: int
    ramp_seconds: float


_FULL: Final = Plan(500, 400, 8.0)
_QUICK: Final = Plan(100, 100, 2.0)


class MemoryProbe(threading.Thread):
    """The most that a process held."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._stopping = threading.Event()
        self.most_mb = server.rss_mb()

    def __enter__(self) -> "MemoryProbe":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join()

    def run(self) -> None:
        while not self._stopping.wait(_SAMPLE_SECONDS):
            self.most_mb = max(self.most_mb, self._server.rss_mb())


def run(*, quick: bool) -> Report:
    plan = _QUICK if quick else _FULL
    report = Report("streams")
    layout = layouts.small_layout()
    with workspace() as folder, simulator(folder, dims=layouts.DIMS) as provider:
        settings = layouts.settings_for(provider)
        with (
            layouts.filled((layout,), settings, folder) as database,
            chat.sides(layout, database, provider, settings, folder, chats=0) as (_, product),
        ):
            control(provider, ttft=0.0, tps=0.0, tokens=20.0)
            _load(product, _WARM_UP, 8, 0.0)
            idle_mb = product.server.rss_mb()
            _measure(report, plan, provider, product, idle_mb)
    return report


def _measure(report: Report, plan: Plan, provider: Server, product: chat.Side, idle_mb: float) -> None:
    control(provider, reset=1, ttft=0.2, tps=float(_TOKENS_PER_SECOND), tokens=float(plan.tokens))
    cpu = product.server.cpu_seconds()
    with MemoryProbe(product.server) as memory, HealthProbe(product.server) as health:
        outcome = _load(product, plan.streams, plan.streams, plan.ramp_seconds)
    cpu = product.server.cpu_seconds() - cpu
    counters = control(provider)
    tokens = plan.streams * plan.tokens
    pace = [
        (plan.tokens - 1) / ((whole - first) / 1000)
        for whole, first in zip(outcome.latency_ms, outcome.first_ms, strict=True)
    ]
    report.figures.extend(
        [
            Figure("open at once, by the provider's count", counters["max_in_flight"], "streams"),
            Figure("errors", outcome.errors, "", at_most=0),
            Figure("refused without asking the model", outcome.refused, "", at_most=0),
            Figure("above idle", memory.most_mb - idle_mb, "MB", at_most=_MOST_MB_ABOVE_IDLE),
            Figure("/health p99", health.percentile_ms(99), "ms", at_most=_MOST_HEALTH_MS),
            Figure("/health p50", health.percentile_ms(50), "ms"),
            Figure("server CPU a token", 1e6 * cpu / tokens, "µs"),
            Figure("server CPU", 100 * cpu / outcome.seconds, "% of a core"),
            Figure("pace of the slowest stream", min(pace, default=0.0), "tokens/s"),
        ]
    )
    table = Details(
        f"{plan.streams} streams of {plan.tokens} tokens at {_TOKENS_PER_SECOND} a second",
        ("", "p50", "p95", "max"),
    )
    for name, values in (("first token, ms", outcome.first_ms), ("whole, ms", outcome.latency_ms)):
        table.rows.append((name, percentile(values, 50), percentile(values, 95), max(values)))
    report.details.append(table)
    if outcome.first_error:
        report.notes.append(f"first error: {outcome.first_error}")


def _load(side: chat.Side, count: int, concurrency: int, ramp_seconds: float) -> Outcome:
    asked = itertools.islice(
        corpus.questions(), _QUESTIONS
    )  # further ones are not all relevant to a passage of the layout
    questions = itertools.islice(itertools.cycle(list(asked)), count)
    bodies = [{"message": question, "stream": True} for question in questions]
    return drive(
        Load(
            side.server,
            "/chat",
            bodies,
            concurrency,
            key=side.key,
            stream=PRODUCT_STREAM,
            ramp_seconds=ramp_seconds,
            max_seconds=180.0,
        )
    )
