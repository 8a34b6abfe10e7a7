"""Search of 1,000,000 chunks in two hundred organizations of 100 to 300,000, as `retrieval` measures it; takes hours to fill."""

from typing import Final

from benchmarks.population import Population
from benchmarks.report import Report
from benchmarks.retrieval import Goals, Plan, measure

_MILLION: Final = Plan(
    Population(1_000_000, 200, 100, 300_000, plain=False), asked=800, crowd=800, rounds=3, recalled=100
)
_QUICK: Final = Plan(
    Population(10_000, 20, 100, 3_000, exact_up_to=1_000, plain=False),
    asked=80,
    crowd=160,
    rounds=2,
    recalled=30,
)
_GOALS: Final = Goals(p50_ms=None, p95_ms=120, recall=0.95, throughput=None)


def run(*, quick: bool) -> Report:
    report = Report("scale")
    measure(report, _QUICK if quick else _MILLION, _GOALS)
    return report
