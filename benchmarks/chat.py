"""Chat over 100,000 chunks: latency, throughput and CPU, by the index and exactly.

Beside the limit, beside LlamaIndex's own chat engine, and beside what the provider takes by itself.
"""

import itertools
import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import added, corpus, layouts, plain_side
from benchmarks.layouts import DIMS, Layout, Size
from benchmarks.load import together
from benchmarks.processes import simulator, workspace
from benchmarks.report import Details, Figure, Report, Skipped, percentile
from benchmarks.sides import Bench, Cost, Side, sides

__all__ = ["Side", "run", "sides"]

_WARM_UP: Final = 400
_PLAIN: Final = "plain"
_LEAN: Final = "lean"
_PLAIN_NOTE: Final = (
    "the plain LlamaIndex server is what `as_chat_engine` makes by itself: follow-ups rewritten by the model, its `Memory`; the"
    " lean one searches with the question as it is and has the deprecated `ChatMemoryBuffer`. Each chat of both sides has six"
    " earlier messages."
)
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
class PlainPlan:
    """Chats a round; the product's rounds have more, to last about as long."""

    rounds: int
    warm_up: int
    chats: int
    product_chats: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is stored and asked; `loads` are concurrency and chats a round."""

    size: Size
    rounds: int
    loads: tuple[tuple[int, int], ...]
    max_seconds: float
    plain: PlainPlan
    added: added.Plan

    @property
    def chats(self) -> int:
        """So many sessions the product needs."""
        compared = _WARM_UP + self.rounds * sum(count for _, count in self.loads)
        return compared + self.plain.rounds * self.plain.product_chats + self.added.sessions


_FULL: Final = Plan(
    size=Size(100_000, 50, 20_000),
    rounds=5,
    loads=((1, 100), (16, 256), (64, 384)),
    max_seconds=15.0,
    plain=PlainPlan(rounds=5, warm_up=64, chats=128, product_chats=512),
    added=added.Plan(rounds=5, chats=256, streams=64),
)
_QUICK: Final = Plan(
    size=Size(5_000, 8, 2_200),
    rounds=2,
    loads=((1, 20), (16, 64), (64, 96)),
    max_seconds=4.0,
    plain=PlainPlan(rounds=2, warm_up=16, chats=32, product_chats=96),
    added=added.Plan(rounds=1, chats=64, streams=32),
)


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
            bench = Bench(database, provider, plan.max_seconds)
            for layout in both:
                with sides(layout, database, provider, settings, folder, chats=plan.chats) as (
                    limit,
                    product,
                ):
                    _report(report, layout, _compare(plan, bench, limit, product))
                    if layout.by_index:
                        _beside_plain(report, plan, layout, bench, (limit, product), folder)
    return report


def _compare(plan: Plan, bench: Bench, limit: Side, product: Side) -> list[Comparison]:
    for side in (limit, product):
        bench.chat(side, _WARM_UP, 8)
    comparisons = []
    for concurrency, count in plan.loads:
        costs: dict[str, list[Cost]] = {"limit": [], "product": []}
        for number in range(plan.rounds):
            for side in (limit, product) if number % 2 else (product, limit):
                costs[side.name].append(bench.metered(side, count, concurrency))
        comparisons.append(Comparison(concurrency, costs["limit"], costs["product"]))
    return comparisons


def _beside_plain(
    report: Report, plan: Plan, layout: Layout, bench: Bench, sides_: tuple[Side, Side], folder: Path
) -> None:
    """LlamaIndex's own chat engine beside the product, and then all of them at a model's pace."""
    limit, product = sides_
    try:
        place = plain_side.prepare(bench.database, bench.database.url(layout.name))
    except Skipped as reason:
        report.notes.append(f"{layout.name}: not compared with a plain LlamaIndex server: {reason}")
        added.measure(report, layout.name, plan.added, bench.provider, product, [limit])
        return
    with ExitStack() as stack:
        engines = [
            Side(
                name,
                stack.enter_context(plain_side.server(place, bench.provider, folder, lean=name == _LEAN)),
                None,
                plain_side.bodies(itertools.cycle(corpus.questions())),
            )
            for name in (_PLAIN, _LEAN)
        ]
        for engine in engines:
            bench.chat(engine, plan.plain.warm_up, 8)
        costs: dict[str, list[Cost]] = {side.name: [] for side in (product, *engines)}
        for _ in range(plan.plain.rounds):
            costs[product.name].append(bench.metered(product, plan.plain.product_chats, added.CLIENTS))
            for engine in engines:
                costs[engine.name].append(bench.metered(engine, plan.plain.chats, added.CLIENTS))
        _report_plain(report, layout, costs)
        added.measure(report, layout.name, plan.added, bench.provider, product, [limit, *engines])


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


def _report_plain(report: Report, layout: Layout, costs: dict[str, list[Cost]]) -> None:
    clients = added.CLIENTS
    table = Details(f"Beside LlamaIndex's own chat engine, {layout.title}", _COLUMNS)
    table.rows.extend(_row(clients, name, rounds) for name, rounds in costs.items())
    report.details.append(table)
    for name, goal in ((_PLAIN, 5), (_LEAN, None)):
        pairs = zip(costs["product"], costs[name], strict=True)
        times = statistics.median(
            ours.outcome.per_second / theirs.outcome.per_second for ours, theirs in pairs
        )
        figure = f"{layout.name}: throughput of a {name} LlamaIndex chat engine's, {clients} clients"
        report.figures.append(Figure(figure, times, "times", at_least=goal))
        first_error = together([cost.outcome for cost in costs[name]]).first_error
        if first_error:
            report.notes.append(f"{layout.name}: {name}: first error: {first_error}")
    report.notes.append(f"{layout.name}: {_PLAIN_NOTE}")


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
