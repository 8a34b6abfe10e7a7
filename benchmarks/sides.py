"""The servers that are compared: where each is, what it is asked, and what asking it costs everybody."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import corpus, layouts, seeding
from benchmarks.layouts import Layout
from benchmarks.load import Load, Outcome, drive
from benchmarks.processes import Postgres, Server, control, python_server, service

_SETTLING_SECONDS: Final = 4.0


@dataclass(frozen=True, slots=True)
class Side:
    """One of those that are compared: where it is and what it is asked."""

    name: str
    server: Server
    key: str | None
    bodies: Iterator[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Cost:
    """One load and the CPU, in seconds, that it cost everybody; `chat_calls` are the provider's."""

    outcome: Outcome
    server_cpu: float
    postgres_cpu: float
    provider_cpu: float
    chat_calls: float


@dataclass(frozen=True, slots=True)
class Bench:
    """What all sides share, and what a load may take."""

    database: Postgres
    provider: Server
    max_seconds: float

    def chat(self, side: Side, count: int, concurrency: int) -> Outcome:
        bodies = list(itertools.islice(side.bodies, count))
        return drive(Load(side.server, "/chat", bodies, concurrency, self.max_seconds, side.key))

    def metered(self, side: Side, count: int, concurrency: int) -> Cost:
        before = self._meters(side)
        outcome = self.chat(side, count, concurrency)
        after = self._meters(side)
        return Cost(outcome, *(b - a for a, b in zip(before, after, strict=True)))

    def _meters(self, side: Side) -> tuple[float, float, float, float]:
        cpu = side.server.cpu_seconds(), self.database.cpu_seconds(), self.provider.cpu_seconds()
        return (*cpu, float(control(self.provider)["chat"]))


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
