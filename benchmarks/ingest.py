"""Ingestion over the API: documents a second with zero-latency embeddings, and whether the service still answers meanwhile."""

import time
from dataclasses import dataclass
from typing import Final

from benchmarks import corpus
from benchmarks.load import HealthProbe, Load, Outcome, drive
from benchmarks.processes import Postgres, Server, control, embedding_provider, postgres, service, workspace
from benchmarks.report import Details, Figure, Report, percentile

_CLIENTS: Final = 8
_TEXT_BYTES: Final = 5_000
_IDLE_SECONDS: Final = 2.0
_SETTLING_SECONDS: Final = 3.0
"""Until the processes have started that the first texts called for."""


@dataclass(frozen=True, slots=True)
class Plan:
    rounds: int
    texts: int


_FULL: Final = Plan(rounds=5, texts=300)
_QUICK: Final = Plan(rounds=2, texts=100)


@dataclass(frozen=True, slots=True)
class Round:
    """What one batch of texts cost; CPU in ms a document."""

    per_second: float
    p50_ms: float
    errors: int
    server_ms: float
    all_ms: float
    """With the processes that it has beside it."""
    postgres_ms: float
    provider_ms: float
    lag_p50_ms: float
    lag_p99_ms: float
    lag_max_ms: float


def run(*, quick: bool) -> Report:
    plan = _QUICK if quick else _FULL
    report = Report("ingest")
    with (
        workspace() as folder,
        embedding_provider(folder) as provider,
        postgres(folder / "data") as database,
    ):
        settings = {
            "DB_URL": database.product_url,
            "OPENAI_API_KEY": "sk-benchmark",
            "OPENAI_BASE_URL": f"{provider.url}/v1",
        }
        with service(settings, folder) as server:
            key = server.first_key()
            _send(server, key, _texts(64, seed=99))
            time.sleep(_SETTLING_SECONDS)
            with HealthProbe(server) as idle:
                time.sleep(_IDLE_SECONDS)
            batches = [_texts(plan.texts, seed=number) for number in range(plan.rounds)]
            rounds = [_round(server, database, provider, key, batch) for batch in batches]
            control(provider, reset=1)
            again = _send(server, key, batches[0])
            counters = control(provider)
    table = Details(
        f"{plan.texts} texts of {_TEXT_BYTES:,} bytes over {_CLIENTS} connections, {plan.rounds} times",
        (
            "round",
            "docs/s",
            "p50 ms",
            "server CPU ms",
            "with its processes",
            "PostgreSQL CPU ms",
            "provider CPU ms",
            "lag p50 ms",
            "p99",
            "max",
        ),
    )
    for number, r in enumerate(rounds, start=1):
        lags = (r.lag_p50_ms, r.lag_p99_ms, r.lag_max_ms)
        table.rows.append(
            (number, r.per_second, r.p50_ms, r.server_ms, r.all_ms, r.postgres_ms, r.provider_ms, *lags)
        )
    report.details.append(table)
    calmest = max(rounds, key=lambda r: r.per_second)
    report.figures.extend(
        [
            Figure("documents a second", calmest.per_second, "/s", at_least=100),
            Figure("server CPU a document", calmest.server_ms, "ms"),
            Figure("the same with its processes", calmest.all_ms, "ms"),
            Figure("lag of the event loop, p99", calmest.lag_p99_ms, "ms", at_most=50),
            Figure("the same while idle", idle.percentile_ms(99), "ms"),
            Figure("errors", sum(r.errors for r in rounds), "", at_most=0),
            Figure("duplicates a second", again.per_second, "/s"),
            Figure("embedding calls for duplicates", counters["embeddings"], "", at_most=0),
            Figure("errors with duplicates", again.errors, "", at_most=0),
        ]
    )
    return report


def _texts(count: int, *, seed: int) -> list[dict[str, str]]:
    return [{"text": text} for text in corpus.long_texts(count, size_bytes=_TEXT_BYTES, seed=seed)]


def _send(server: Server, key: str, texts: list[dict[str, str]]) -> Outcome:
    return drive(Load(server, "/ingest", texts, _CLIENTS, key=key))


def _round(
    server: Server, database: Postgres, provider: Server, key: str, texts: list[dict[str, str]]
) -> Round:
    meters = (server.cpu_seconds, server.all_cpu_seconds, database.cpu_seconds, provider.cpu_seconds)
    before = [meter() for meter in meters]
    with HealthProbe(server) as probe:
        outcome = _send(server, key, texts)
    server_ms, all_ms, postgres_ms, provider_ms = (
        1000 * (meter() - earlier) / outcome.count for meter, earlier in zip(meters, before, strict=True)
    )
    return Round(
        per_second=outcome.per_second,
        p50_ms=percentile(outcome.latency_ms, 50),
        errors=outcome.errors,
        server_ms=server_ms,
        all_ms=all_ms,
        postgres_ms=postgres_ms,
        provider_ms=provider_ms,
        lag_p50_ms=probe.percentile_ms(50),
        lag_p99_ms=probe.percentile_ms(99),
        lag_max_ms=max(probe.lag_ms),
    )
