"""Search of 100,000 chunks in fifty organizations: latency, recall and throughput, beside the dense query and plain fusion.

Vectors are those of real sentences (see `vectors.py`), and the questions come with theirs, so what is measured is
everything but the embedding of a question.
"""

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import asyncpg
import numpy as np
import structlog
import uvloop
from pgvector import HalfVector

from app.core.principal import ALL_SCOPES, Principal, PrincipalKind, Role
from app.core.retrieval import Trust
from benchmarks import corpus, vectors
from benchmarks.population import Population, machine, opened, populated
from benchmarks.processes import Postgres
from benchmarks.report import Details, Figure, Report, percentile
from benchmarks.searches import TOP, Asked, Asking, Organization

_CLIENTS: Final = 16
_ONLY_DENSE: Final = Trust(1.0, 1e-9)
_SIZES: Final = (1_000, 5_000, 20_000, 100_000, 10**9)

_EXACT: Final = """
SELECT 1 - (embedding <=> $2) AS similarity FROM chunks WHERE organization_id = $1 ORDER BY (embedding <=> $2) + 0 LIMIT $3
"""
_RELATION_SIZES: Final = """
SELECT what, sum(size) / 1e6 AS mb
  FROM (SELECT CASE WHEN relname LIKE 'ix_chunks_exact%' THEN 'exact' WHEN relname LIKE 'ix_chunks_hnsw%' THEN 'graphs'
                    WHEN relname = 'ix_chunks_scoped_terms' THEN 'terms' ELSE 'other indexes' END AS what,
               pg_total_relation_size(oid) AS size
          FROM pg_class
         WHERE relkind = 'i' AND (relname LIKE 'ix_chunks%' OR relname IN ('pk_chunks', 'uq_chunks_place'))
        UNION ALL SELECT 'chunks: rows', pg_table_size('chunks')
        UNION ALL SELECT 'documents and pages', pg_total_relation_size('documents') + pg_total_relation_size('pages')
        UNION ALL SELECT 'term statistics', pg_total_relation_size('term_statistics')) relations
 GROUP BY what
"""
_ORGANIZATIONS: Final = """
SELECT organization_id, sum(chunk_count) AS chunks FROM documents GROUP BY 1 ORDER BY 2
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """`asked` are the questions of one client, `crowd` those of sixteen in each of the rounds, `recalled` those of each size."""

    population: Population
    asked: int
    crowd: int
    rounds: int
    recalled: int


_FULL: Final = Plan(Population(100_000, 50, 120, 28_000), asked=600, crowd=800, rounds=5, recalled=150)
_QUICK: Final = Plan(
    Population(5_000, 8, 120, 1_500, exact_up_to=1_000), asked=80, crowd=160, rounds=2, recalled=30
)


@dataclass(frozen=True, slots=True)
class Goals:
    p50_ms: float | None = 10
    p95_ms: float = 40
    recall: float = 0.98
    throughput: float | None = 60


Search = Callable[[Asked], Awaitable[object]]


def run(*, quick: bool) -> Report:
    plan = _QUICK if quick else _FULL
    report = Report("retrieval")
    measure(report, plan, Goals())
    return report


def measure(report: Report, plan: Plan, goals: Goals) -> None:
    """Fill a database, unless that was done before, and add what is measured there to the report."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with populated(plan.population) as (server, url):
        uvloop.run(_measure(report, plan, goals, server, url))


async def _measure(report: Report, plan: Plan, goals: Goals, server: Postgres, url: str) -> None:
    async with opened(url) as (database, owner):
        organizations = [
            Organization(_principal(row["organization_id"]), row["chunks"])
            for row in await owner.fetch(_ORGANIZATIONS)
        ]
        asking = Asking(database, plan.population.exact_up_to)
        searches: dict[str, Search] = {
            "fused": asking.fused,
            "dense alone": asking.dense_alone,
        }
        if plan.population.plain:
            searches["plain fusion"] = asking.plain_fusion
        await _alone(report, plan, server, organizations, searches, goals)
        await _together(report, plan, organizations, searches, goals)
        await _recall(report, plan, organizations, asking, owner, goals)
        await _sizes(report, owner)


async def _alone(
    report: Report,
    plan: Plan,
    server: Postgres,
    organizations: Sequence[Organization],
    searches: dict[str, Search],
    goals: Goals,
) -> None:
    cpu = Details("CPU of a search, one client", ("search", "PostgreSQL ms", "client ms"))
    table = Details("One client, by the chunks of its organization", ("search", "chunks", "p50 ms", "p95 ms"))
    for name, search in searches.items():
        asked = _asked(organizations, plan.asked)
        for one in asked[: plan.asked // 4]:
            await search(one)
        latencies: list[tuple[int, float]] = []
        of_server, of_client = server.cpu_seconds(), time.process_time()
        for one in asked:
            started = time.perf_counter()
            await search(one)
            latencies.append((one.organization.chunks, 1_000 * (time.perf_counter() - started)))
        spent = (server.cpu_seconds() - of_server, time.process_time() - of_client)
        cpu.rows.append((name, *(1_000 * seconds / len(asked) for seconds in spent)))
        smallest = 0
        for largest in _SIZES:
            of_size = [ms for chunks, ms in latencies if smallest < chunks <= largest]
            if of_size:
                label = f"> {smallest:,}" if largest == _SIZES[-1] else f"≤ {largest:,}"
                table.rows.append((name, label, percentile(of_size, 50), percentile(of_size, 95)))
            smallest = largest
        whole = [ms for _, ms in latencies]
        is_ours = name == "fused"
        report.figures.append(
            Figure(f"{name}: p50", percentile(whole, 50), "ms", at_most=goals.p50_ms if is_ours else None)
        )
        report.figures.append(
            Figure(f"{name}: p95", percentile(whole, 95), "ms", at_most=goals.p95_ms if is_ours else None)
        )
    report.details.extend([table, cpu])


async def _together(
    report: Report,
    plan: Plan,
    organizations: Sequence[Organization],
    searches: dict[str, Search],
    goals: Goals,
) -> None:
    """Sixteen clients; the three take turns, so that what else the machine does meets each of them."""
    rates: dict[str, list[float]] = {name: [] for name in searches}
    for number in range(plan.rounds):
        names = list(searches) if number % 2 else list(reversed(searches))
        for name in names:
            waiting = iter(_asked(organizations, plan.crowd))
            started = time.perf_counter()
            await asyncio.gather(*(_client(waiting, searches[name]) for _ in range(_CLIENTS)))
            rates[name].append(plan.crowd / (time.perf_counter() - started))
    table = Details(f"{_CLIENTS} clients", ("search", "searches/s"))
    for name, measured in rates.items():
        table.rows.append((name, percentile(measured, 50)))
    report.details.append(table)
    for other in [name for name in searches if name != "fused"]:
        ratios = [100 * ours / theirs for ours, theirs in zip(rates["fused"], rates[other], strict=True)]
        report.figures.append(
            Figure(
                f"throughput, share of {other}",
                percentile(ratios, 50),
                "%",
                at_least=goals.throughput if other == "dense alone" else None,
            )
        )


async def _client(waiting: Any, search: Search) -> None:
    for asked in waiting:
        await search(asked)


async def _recall(
    report: Report,
    plan: Plan,
    organizations: Sequence[Organization],
    asking: Asking,
    owner: asyncpg.Connection,
    goals: Goals,
) -> None:
    """How many of the true nearest the dense leg has, for the smallest, the largest and sizes in between."""
    places = {round(place) for place in np.linspace(0, len(organizations) - 1, 6)}
    places |= set(range(len(organizations) - 3, len(organizations)))
    table = Details(f"Dense leg: recall@{TOP} of exact search", ("chunks", "recall"))
    worst = 1.0
    for place in sorted(places):
        asked = _asked([organizations[place]], plan.recalled)
        found = [await _recall_of(one, asking, owner) for one in asked]
        table.rows.append((organizations[place].chunks, float(np.mean(found))))
        worst = min(worst, float(np.mean(found)))
    report.details.append(table)
    report.figures.append(
        Figure(f"recall@{TOP} of the dense leg, worst size", worst, "", at_least=goals.recall)
    )


async def _recall_of(asked: Asked, asking: Asking, owner: asyncpg.Connection) -> float:
    """By similarity, since several chunks may be equally near."""
    organization_id = asked.organization.principal.organization
    nearest = await owner.fetch(_EXACT, organization_id, HalfVector(asked.vector), TOP)
    hits: Any = await asking.fused(asked, _ONLY_DENSE)
    least = float(nearest[-1]["similarity"]) - 1e-6
    among = sum(bool(hit.similarity >= least) for hit in hits)
    return min(among, len(nearest)) / len(nearest)


async def _sizes(report: Report, owner: asyncpg.Connection) -> None:
    table = Details(
        f"On disk, and how long it took to make ({machine()})", ("what", "MB", "s", "PostgreSQL CPU s")
    )
    made = {row["what"]: row for row in await owner.fetch("SELECT * FROM made")}
    for row in await owner.fetch(_RELATION_SIZES + " ORDER BY mb DESC"):
        step = made.pop(row["what"], None)
        spent = (step["seconds"], step["cpu_seconds"]) if step else ("", "")
        table.rows.append((row["what"], float(row["mb"]), *spent))
    table.rows.extend((what, "", row["seconds"], row["cpu_seconds"]) for what, row in made.items())
    report.details.append(table)


def _asked(organizations: Sequence[Organization], count: int) -> list[Asked]:
    """Each organization as often as any other, in a fixed random order."""
    chance = random.Random(5)
    whom = list(itertools.islice(itertools.cycle(organizations), count))
    chance.shuffle(whom)
    return [
        Asked(organization, question, vector)
        for organization, (question, vector) in zip(whom, itertools.cycle(_questions()), strict=False)
    ]


@cache
def _questions() -> list[tuple[str, vectors.Vectors]]:
    texts = corpus.questions()
    return list(zip(texts, vectors.questions(texts), strict=True))


def _principal(organization_id: str) -> Principal:
    return Principal(PrincipalKind.API_KEY, "key_benchmark", organization_id, Role.ADMIN, ALL_SCOPES)
