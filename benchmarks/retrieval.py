"""Search of 100,000 chunks in fifty organizations: latency, recall and throughput, beside the dense query and plain fusion.

Plain fusion is what hybrid search on PostgreSQL mostly is: `ts_rank` over an OR query and the nearest vectors, fused by
their ranks (k = 60) in one statement. It gets a table of its own with a stored tsvector.
"""

import asyncio
import base64
import itertools
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import numpy as np
import structlog
import uvloop
from pgvector import HalfVector
from sqlalchemy import text

from app.core.config import Settings
from app.core.principal import ALL_SCOPES, Principal, PrincipalKind, Role
from app.core.retrieval import EVERYTHING, Query, Trust
from app.db.engine import Database
from app.db.repositories.chunks import ChunkRepository
from app.main import open_database, open_runtime
from app.services import embeddings, maintenance, retrieval
from app.services.runtime import Runtime
from benchmarks import corpus, layouts, seeding
from benchmarks.layouts import DIMS, Size
from benchmarks.processes import simulator, workspace
from benchmarks.report import Details, Figure, Report, percentile

_TOP: Final = 10
_CLIENTS: Final = 16
_RRF: Final = 60
_LEG: Final = 50
_ONLY_DENSE: Final = Trust(1.0, 1e-9)
_SIZES: Final = (1_000, 5_000, 20_000, 10**9)

_DENSE: Final = """
SELECT c.id, c.document_id, c.text, 1 - ({near}) AS similarity FROM searchable_chunks c
 WHERE c.embedding_model = '{model}' ORDER BY {order} LIMIT {top}
"""
_PLAIN_TABLE: Final = (
    "CREATE UNLOGGED TABLE IF NOT EXISTS plain_texts AS SELECT id, organization_id,"
    " to_tsvector('english', text) AS tsv FROM chunks",
    "CREATE INDEX IF NOT EXISTS ix_plain_tsv ON plain_texts USING gin (tsv)",
    "CREATE UNIQUE INDEX IF NOT EXISTS ix_plain_id ON plain_texts (id)",
    "GRANT SELECT ON plain_texts TO ibid_app",
    "ANALYZE plain_texts",
)
_PLAIN: Final = """
WITH asked AS MATERIALIZED (
  SELECT CAST(string_agg(quote_literal(lexeme), ' | ') AS tsquery) AS query
    FROM unnest(to_tsvector('english', CAST(:question AS text)))
), lexical AS (
  SELECT id, row_number() OVER (ORDER BY score DESC, id) AS n
    FROM (SELECT p.id, ts_rank(p.tsv, asked.query, 1) AS score FROM plain_texts p, asked
           WHERE p.tsv @@ asked.query AND p.organization_id = current_setting('ibid.organization_id')
           ORDER BY score DESC LIMIT {leg}) best
), dense AS (
  SELECT id, row_number() OVER () AS n
    FROM (SELECT c.id FROM searchable_chunks c WHERE c.embedding_model = '{model}' ORDER BY {order} LIMIT {leg}) nearest
), fused AS (
  SELECT id, sum(1.0 / ({rrf} + n)) AS score
    FROM (SELECT * FROM lexical UNION ALL SELECT * FROM dense) legs GROUP BY id ORDER BY score DESC LIMIT {top}
)
SELECT c.id, c.document_id, c.text, fused.score FROM fused JOIN searchable_chunks c USING (id) ORDER BY fused.score DESC
"""
_EXACT: Final = (
    "SELECT id FROM chunks WHERE organization_id = $1 ORDER BY (embedding <=> $2) + 0, id LIMIT $3"
)
_ORGANIZATIONS: Final = """
SELECT organization_id, sum(chunk_count) AS chunks FROM documents GROUP BY 1 ORDER BY 2
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """`asked` are the questions of one client, `crowd` those of sixteen in each of the rounds, `recalled` those of each size."""

    size: Size
    asked: int
    crowd: int
    rounds: int
    recalled: int


_FULL: Final = Plan(Size(100_000, 50, 20_000), asked=600, crowd=800, rounds=5, recalled=150)
_QUICK: Final = Plan(Size(5_000, 8, 1_000), asked=80, crowd=160, rounds=2, recalled=30)


@dataclass(frozen=True, slots=True)
class Goals:
    p50_ms: float | None = 10
    p95_ms: float = 40
    recall: float = 0.98
    throughput: float | None = 60


@dataclass(frozen=True, slots=True)
class Organization:
    """One that is asked."""

    principal: Principal
    chunks: int


@dataclass(frozen=True, slots=True)
class Asked:
    organization: Organization
    question: str


Search = Callable[[Asked], Awaitable[object]]


def run(*, quick: bool) -> Report:
    plan = _QUICK if quick else _FULL
    report = Report("retrieval")
    _, spread = layouts.layouts_of(plan.size)
    with workspace() as folder, simulator(folder, dims=DIMS, tokens=40) as provider:
        settings = layouts.settings_for(provider, plan.size.exact_up_to)
        with layouts.filled(layouts.layouts_of(plan.size), settings, folder) as database:
            url = database.url(spread.name)
            uvloop.run(measure(report, plan, {**settings, "DB_URL": url, "DATA_DIR": str(folder)}, Goals()))
    return report


async def measure(report: Report, plan: Plan, settings: dict[str, str], goals: Goals) -> None:
    """Add the figures of a filled database to the report."""
    async with _opened(settings) as (runtime, owner):
        await maintenance.run_once(
            runtime
        )  # as every minute in a service: the terms are counted, the index is built
        organizations = [
            Organization(_principal(row["organization_id"]), row["chunks"])
            for row in await owner.fetch(_ORGANIZATIONS)
        ]
        searches = await _searches(runtime, owner)
        await _alone(report, plan, organizations, searches, goals)
        await _together(report, plan, organizations, searches, goals)
        await _recall(report, plan, organizations, runtime, owner, goals)


@asynccontextmanager
async def _opened(settings: dict[str, str]) -> AsyncIterator[tuple[Runtime, asyncpg.Connection]]:
    values = {name.lower(): value for name, value in settings.items()}
    secret = base64.b64encode(secrets.token_bytes(32)).decode()
    opened = Settings(_env_file=None, secret_key=secret, **values)  # type: ignore[arg-type]  # pydantic reads the strings
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    owner = await seeding.connect(settings["DB_URL"])
    try:
        async with open_database(opened) as database, open_runtime(opened, database) as runtime:
            yield runtime, owner
    finally:
        await owner.close()


async def _searches(runtime: Runtime, owner: asyncpg.Connection) -> dict[str, Search]:
    """The product's search and the two it is compared with, each with its call for the embedding."""
    for statement in _PLAIN_TABLE:
        await owner.execute(statement)
    model = runtime.embeddings.fingerprint
    near = f"CAST(c.embedding AS halfvec({DIMS})) <=> CAST(:embedding AS halfvec({DIMS}))"
    exact = "c.embedding <=> CAST(:embedding AS halfvec)"
    values = {"model": model.replace("'", "''").replace(":", "\\:"), "top": _TOP, "leg": _LEG, "rrf": _RRF}
    dense = {
        by_graph: text(_DENSE.format(near=distance, order=order, **values))
        for by_graph, distance, order in ((True, near, near), (False, exact, f"({exact}) + 0"))
    }
    plain = {
        by_graph: text(_PLAIN.format(order=order, **values))
        for by_graph, order in ((True, near), (False, f"({exact}) + 0"))
    }
    exact_up_to = runtime.settings.exact_search_max_values // DIMS

    async def fused(asked: Asked) -> object:
        return await retrieval.search(runtime, asked.organization.principal, asked.question, limit=_TOP)

    async def dense_alone(asked: Asked) -> object:
        vector = await embeddings.query(runtime.embeddings, asked.question)
        return await _rows(
            runtime.database,
            asked,
            dense[asked.organization.chunks > exact_up_to],
            {"embedding": HalfVector(vector)},
        )

    async def plain_fusion(asked: Asked) -> object:
        vector = await embeddings.query(runtime.embeddings, asked.question)
        return await _rows(
            runtime.database,
            asked,
            plain[asked.organization.chunks > exact_up_to],
            {"embedding": HalfVector(vector), "question": asked.question},
        )

    return {"fused": fused, "dense alone": dense_alone, "plain fusion": plain_fusion}


async def _rows(database: Database, asked: Asked, statement: Any, values: dict[str, Any]) -> object:
    async with database.direct(asked.organization.principal, planned_for_all=True) as session:
        return (await session.execute(statement, values)).all()


async def _alone(
    report: Report,
    plan: Plan,
    organizations: Sequence[Organization],
    searches: dict[str, Search],
    goals: Goals,
) -> None:
    table = Details("One client, by the chunks of its organization", ("search", "chunks", "p50 ms", "p95 ms"))
    for name, search in searches.items():
        asked = _asked(organizations, plan.asked)
        for one in asked[: plan.asked // 4]:
            await search(one)
        latencies: list[tuple[int, float]] = []
        for one in asked:
            started = time.perf_counter()
            await search(one)
            latencies.append((one.organization.chunks, 1_000 * (time.perf_counter() - started)))
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
    report.details.append(table)


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
    for other in ("dense alone", "plain fusion"):
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
    runtime: Runtime,
    owner: asyncpg.Connection,
    goals: Goals,
) -> None:
    """How many of the true nearest the dense leg has, for the smallest, the largest and sizes in between."""
    places = sorted({round(place) for place in np.linspace(0, len(organizations) - 1, 8)})
    table = Details(f"Dense leg: recall@{_TOP} of exact search", ("chunks", "recall"))
    worst = 1.0
    for organization in (organizations[place] for place in places):
        found = [
            await _recall_of(Asked(organization, question), runtime, owner)
            for question in itertools.islice(itertools.cycle(corpus.questions()), plan.recalled)
        ]
        table.rows.append((organization.chunks, float(np.mean(found))))
        worst = min(worst, float(np.mean(found)))
    report.details.append(table)
    report.figures.append(
        Figure(f"recall@{_TOP} of the dense leg, worst size", worst, "", at_least=goals.recall)
    )


async def _recall_of(asked: Asked, runtime: Runtime, owner: asyncpg.Connection) -> float:
    """By similarity, since several chunks may be equally near."""
    vector = await embeddings.query(runtime.embeddings, asked.question)
    nearest = await owner.fetch(
        _EXACT.replace("SELECT id", "SELECT 1 - (embedding <=> $2) AS similarity"),
        asked.organization.principal.organization,
        HalfVector(vector),
        _TOP,
    )
    principal = asked.organization.principal
    async with runtime.database.direct(principal, planned_for_all=True) as session:
        hits = await ChunkRepository(session, principal).search(
            Query(vector, [], _ONLY_DENSE),
            limit=_TOP,
            where=EVERYTHING,
            embedding_model=runtime.embeddings.fingerprint,
            exact_up_to=runtime.settings.exact_search_max_values // DIMS,
            sizes=runtime.scope_sizes,
        )
    least = float(nearest[-1]["similarity"]) - 1e-6
    return min(sum(hit.similarity >= least for hit in hits), len(nearest)) / len(nearest)


def _asked(organizations: Sequence[Organization], count: int) -> list[Asked]:
    """Each organization as often as any other, in a fixed random order."""
    chance = random.Random(5)
    whom = list(itertools.islice(itertools.cycle(organizations), count))
    chance.shuffle(whom)
    return [
        Asked(organization, question)
        for organization, question in zip(whom, itertools.cycle(corpus.questions()), strict=False)
    ]


def _principal(organization_id: str) -> Principal:
    return Principal(PrincipalKind.API_KEY, "key_benchmark", organization_id, Role.ADMIN, ALL_SCOPES)
