"""Chat over 100,000 chunks beside the limit: latency, throughput and CPU, by the index and exactly."""

import asyncio
import itertools
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import corpus, layouts, seeding
from benchmarks.layouts import DIMS, Layout, Size
from benchmarks.load import Load, Outcome, drive, together
from benchmarks.processes import (
    Postgres,
    Server,
    control,
    python_server,
    service,
    simulator,
    workspace,
)
from benchmarks.report import Details, Figure, Report, percentile

_WARM_UP: Final = 400
_SETTLING_SECONDS: Final = 4.0
_COLUMNS: Final = (
    "clients",
    "server",
    "p50 ms",
    "p95 ms",
    "req/s",
    "server CPU ms",
    "PG CPU ms",
    "provider CPU ms",
    "client CPU ms",
    "chat calls",
    "errors",
    "refused",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is stored and asked; `loads` are concurrency and chats a round."""

    size: Size
    rounds: int
    loads: tuple[tuple[int, int], ...]
    max_seconds: float

    @property
    def chats(self) -> int:
        return _WARM_UP + self.rounds * sum(count for _, count in self.loads)


_FULL: Final = Plan(Size(100_000, 50, 20_000), 5, ((1, 100), (16, 256), (64, 384)), 15.0)
_QUICK: Final = Plan(Size(5_000, 8, 2_200), 2, ((1, 20), (16, 64), (64, 96)), 4.0)


@dataclass(slots=True)
class Side:
    """One of the two that are compared: where it is and what it is asked."""

    name: str
    server: Server
    key: str | None
    bodies: Iterator[dict[str, Any]]
    costs: "list[Cost]" = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cost:
    """One load and the CPU, in seconds, that it cost everybody; `chat_calls` are the provider's."""

    outcome: Outcome
    server_cpu: float
    postgres_cpu: float
    provider_cpu: float
    chat_calls: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rounds of one concurrency."""

    concurrency: int
    limit: list[Cost]
    product: list[Cost]

    @property
    def throughput_ratio(self) -> float:
        """Median of the rounds: each compares two loads that ran right after each other."""
        pairs = zip(self.product, self.limit, strict=True)
        return statistics.median(p.outcome.per_second / li.outcome.per_second for p, li in pairs)


def run(*, quick: bool) -> Report:
    plan = _QUICK if quick else _FULL
    report = Report("chat")
    both = layouts.layouts_of(plan.size)
    # A follow-up is rewritten by the model before the search: echoed, so that it is still about something.
    with workspace() as folder, simulator(folder, dims=DIMS, tokens=40, echo=True) as provider:
        settings = layouts.settings_for(provider, plan.size.exact_up_to)
        with layouts.filled(both, settings, folder) as database:
            for layout in both:
                with sides(layout, database, provider, settings, folder, chats=plan.chats) as (
                    limit,
                    product,
                ):
                    _report(report, layout, _compare(plan, database, provider, limit, product))
    return report


@contextmanager
def sides(
    layout: Layout,
    database: Postgres,
    provider: Server,
    settings: dict[str, str],
    folder: Path,
    *,
    chats: int,
) -> Iterator[tuple[Side, Side]]:
    """The limit and the product on the same database, the product with a session of six messages for each chat."""
    url = database.url(layout.name)
    tenant = layouts.asked_tenant(url)
    sessions = asyncio.run(seeding.replace_sessions(url, tenant, chats))
    index = asyncio.run(seeding.vector_index(url, wait=False)) if layout.by_index else None
    configuration = {
        "provider": provider.url,
        "database_url": url,
        "organization_id": tenant.organization_id,
        "index": index and asdict(index),
    }
    questions = corpus.questions()
    asked = ({"message": question} for question in itertools.cycle(questions))
    continued = (
        {"message": question, "session_id": session}
        for question, session in zip(itertools.cycle(questions), sessions, strict=False)
    )
    with (
        python_server("benchmarks.limit", configuration, folder) as limit,
        service({**settings, "DB_URL": url}, folder) as product,
    ):
        time.sleep(_SETTLING_SECONDS)  # the service looks after its indexes and statistics first
        yield Side("limit", limit, None, asked), Side("product", product, tenant.key, continued)


def _compare(
    plan: Plan, database: Postgres, provider: Server, limit: Side, product: Side
) -> list[Comparison]:
    for side in (limit, product):
        _chat(side, _WARM_UP, 8, plan.max_seconds)
    comparisons = []
    for concurrency, count in plan.loads:
        costs: dict[str, list[Cost]] = {"limit": [], "product": []}
        for number in range(plan.rounds):
            for side in (limit, product) if number % 2 else (product, limit):
                before = _meters(side, database, provider)
                outcome = _chat(side, count, concurrency, plan.max_seconds)
                after = _meters(side, database, provider)
                spent = (b - a for a, b in zip(before, after, strict=True))
                costs[side.name].append(Cost(outcome, *spent))
        comparisons.append(Comparison(concurrency, costs["limit"], costs["product"]))
    return comparisons


def _chat(side: Side, count: int, concurrency: int, max_seconds: float) -> Outcome:
    bodies = list(itertools.islice(side.bodies, count))
    return drive(Load(side.server, "/chat", bodies, concurrency, max_seconds, side.key))


def _meters(side: Side, database: Postgres, provider: Server) -> tuple[float, float, float, float]:
    cpu = side.server.cpu_seconds(), database.cpu_seconds(), provider.cpu_seconds()
    return (*cpu, float(control(provider)["chat"]))


def _report(report: Report, layout: Layout, comparisons: list[Comparison]) -> None:
    table = Details(f"Chat, {layout.title}", _COLUMNS)
    for comparison in comparisons:
        table.rows.append(_row(comparison.concurrency, "limit", comparison.limit))
        table.rows.append(_row(comparison.concurrency, "product", comparison.product))
    report.details.append(table)
    name = layout.name
    alone, crowd = comparisons[0], comparisons[-1]
    own, least = _server_ms(alone.product), _server_ms(alone.limit)
    report.figures.extend(
        [
            Figure(f"{name}: p50 with one client", _p50(alone.product), "ms", at_most=12),
            Figure(f"{name}: p50 over the limit's", _p50(alone.product) - _p50(alone.limit), "ms"),
            Figure(f"{name}: server CPU a chat", own, "ms"),
            Figure(f"{name}: server CPU over the limit's", own - least, "ms", at_most=8),
        ]
    )
    for comparison in comparisons[1:]:
        share = 100 * comparison.throughput_ratio
        report.figures.append(
            Figure(
                f"{name}: throughput of the limit's, {comparison.concurrency} clients",
                share,
                "%",
                at_least=40,
            )
        )
    errors = sum(cost.outcome.errors for cost in crowd.product)
    report.figures.append(Figure(f"{name}: errors with {crowd.concurrency} clients", errors, "", at_most=0))
    first_error = together([cost.outcome for c in comparisons for cost in (*c.product, *c.limit)]).first_error
    if first_error:
        report.notes.append(f"{name}: first error: {first_error}")


def _row(concurrency: int, name: str, costs: list[Cost]) -> tuple[str | int | float, ...]:
    whole = together([cost.outcome for cost in costs])
    return (
        concurrency,
        name,
        percentile(whole.latency_ms, 50),
        percentile(whole.latency_ms, 95),
        whole.per_second,
        sum(cost.server_cpu for cost in costs) / whole.count * 1000,
        sum(cost.postgres_cpu for cost in costs) / whole.count * 1000,
        sum(cost.provider_cpu for cost in costs) / whole.count * 1000,
        whole.cpu_seconds / whole.count * 1000,
        sum(cost.chat_calls for cost in costs) / whole.count,
        whole.errors,
        whole.refused,
    )


def _p50(costs: list[Cost]) -> float:
    """Of the calmest round: other work on the machine only ever adds."""
    return min(percentile(cost.outcome.latency_ms, 50) for cost in costs)


def _server_ms(costs: list[Cost]) -> float:
    """CPU of the server per chat, of the calmest round."""
    return min(cost.server_cpu / cost.outcome.count for cost in costs) * 1000
