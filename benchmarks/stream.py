"""Streaming: what the product adds before the provider's first token and after its last, and how many it can serve."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import chat, corpus, lag, layouts
from benchmarks.load import PRODUCT_STREAM, PROVIDER_STREAM, Load, Outcome, drive, together
from benchmarks.processes import Server, control, simulator, workspace
from benchmarks.report import Details, Figure, Report, percentile

_PACE: Final = {"ttft": 0.05, "tps": 50.0, "tokens": 30.0}
_AT_ONCE: Final = {"ttft": 0.0, "tps": 0.0, "tokens": 100.0}
_STREAM_SECONDS: Final = _PACE["ttft"] + _PACE["tokens"] / _PACE["tps"]
_WARM_UP: Final = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """`paced` are concurrency and streams a round at a model's pace; `burst` the same without any waiting."""

    rounds: int
    paced: tuple[tuple[int, int], ...]
    burst: tuple[int, int]


_FULL: Final = Plan(3, ((1, 12), (16, 96)), (16, 400))
_QUICK: Final = Plan(1, ((1, 4), (16, 32)), (16, 64))


def run(*, quick: bool) -> Report:
    plan = _QUICK if quick else _FULL
    report = Report("stream")
    layout = layouts.small_layout()
    with workspace() as folder, simulator(folder, dims=layouts.DIMS) as provider:
        settings = layouts.settings_for(provider)
        with layouts.filled((layout,), settings, folder) as database:
            with chat.sides(layout, database, provider, settings, folder, chats=0) as (limit, product):
                for concurrency, count in plan.paced:
                    _paced(report, plan.rounds, concurrency, count, provider, product)
                _burst(report, plan, provider, limit, product)
            control(provider, **_PACE)
            with lag.relayed(layout, database, provider, folder) as (relay, sides):
                for concurrency, count in plan.paced:
                    load = lag.Plan(plan.rounds, concurrency, count, _STREAM_SECONDS)
                    lag.measure(report, load, relay, sides)
    return report


def _paced(
    report: Report, rounds: int, concurrency: int, count: int, provider: Server, product: chat.Side
) -> None:
    control(provider, **_PACE)
    _product(product, min(_WARM_UP, count), concurrency, _STREAM_SECONDS)
    alone, through = [], []
    for _ in range(rounds):
        alone.append(_provider(provider, count, concurrency))
        through.append(_product(product, count, concurrency, _STREAM_SECONDS))
    direct, ours = together(alone), together(through)
    table = Details(
        f"At 50 ms to the first token and 50 tokens/s, {concurrency} at a time, begun one after the other (ms)",
        ("", "first p50", "first p95", "ending p50", "ending p95", "whole p50", "errors"),
    )
    table.rows.extend([_row("provider", direct), _row("product", ours)])
    report.details.append(table)
    added = percentile(ours.first_ms, 50) - percentile(direct.first_ms, 50)
    ending = percentile(ours.ending_ms, 50) - percentile(direct.ending_ms, 50)
    at = f"{concurrency} at a time"
    report.figures.extend(
        [
            Figure(f"added before the first token, {at}", added, "ms", at_most=10),
            Figure(f"added after the last token, {at}", ending, "ms", at_most=5),
            Figure(f"errors, {at}", ours.errors, "", at_most=0),
        ]
    )
    if ours.first_error:
        report.notes.append(f"first error: {ours.first_error}")


def _burst(report: Report, plan: Plan, provider: Server, limit: chat.Side, product: chat.Side) -> None:
    control(provider, **_AT_ONCE)
    concurrency, count = plan.burst
    _limit(limit, _WARM_UP, concurrency)
    _product(product, _WARM_UP, concurrency)
    least, ours, cpu = [], [], 0.0
    for _ in range(plan.rounds):
        least.append(_limit(limit, count, concurrency))
        before = product.server.cpu_seconds()
        ours.append(_product(product, count, concurrency))
        cpu += product.server.cpu_seconds() - before
    rate, most = together(ours).per_second, together(least).per_second
    errors = sum(outcome.errors for outcome in ours)
    report.figures.extend(
        [
            Figure(f"streams of 100 tokens without waiting, {concurrency} at a time", rate, "/s"),
            Figure("the limit's", most, "/s"),
            Figure("of the limit's", 100 * rate / most, "%"),
            Figure("server CPU a stream", 1000 * cpu / together(ours).count, "ms"),
            Figure("errors without waiting", errors, "", at_most=0),
        ]
    )


def _product(side: chat.Side, count: int, concurrency: int, ramp_seconds: float = 0.0) -> Outcome:
    bodies = [{"message": question, "stream": True} for question in _questions(count)]
    return drive(
        Load(
            side.server,
            "/chat",
            bodies,
            concurrency,
            key=side.key,
            stream=PRODUCT_STREAM,
            ramp_seconds=ramp_seconds,
        )
    )


def _limit(side: chat.Side, count: int, concurrency: int) -> Outcome:
    bodies = [{"message": question} for question in _questions(count)]
    return drive(Load(side.server, "/stream", bodies, concurrency, stream=PRODUCT_STREAM))


def _provider(provider: Server, count: int, concurrency: int) -> Outcome:
    bodies: list[dict[str, Any]] = [
        {"model": "any", "stream": True, "messages": [{"role": "user", "content": question}]}
        for question in _questions(count)
    ]
    return drive(
        Load(
            provider,
            "/v1/chat/completions",
            bodies,
            concurrency,
            stream=PROVIDER_STREAM,
            ramp_seconds=_STREAM_SECONDS,
        )
    )


def _questions(count: int) -> Iterator[str]:
    return itertools.islice(itertools.cycle(corpus.questions()), count)


def _row(name: str, outcome: Outcome) -> tuple[str | int | float, ...]:
    first, ending = outcome.first_ms, outcome.ending_ms
    return (
        name,
        *(percentile(first, share) for share in (50, 95)),
        *(percentile(ending, share) for share in (50, 95)),
        percentile(outcome.latency_ms, 50),
        outcome.errors,
    )
