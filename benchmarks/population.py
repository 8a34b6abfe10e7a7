"""Organizations of many sizes in one database, with vectors of real sentences, and the indexes as the service builds them.

A ninth more is stored than is measured and then deleted again, and vacuumed: what is measured has lived.
"""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
import numpy as np
import uvloop

from app.db import migrations, upkeep
from app.db.engine import Database, create_database
from benchmarks import corpus, seeding, vectors
from benchmarks.processes import Postgres, postgres

MODEL: Final = "benchmark@1/384/f32/256/none"
DIMS: Final = 384

_DATABASE: Final = "retrieval"
_DISTINCT_TEXTS: Final = 20_000
_TERM_INDEX: Final = "ix_chunks_scoped_terms"
_BUILD_MEMORY_MB: Final = 2_048
_DELETED: Final = """
DELETE FROM documents WHERE id IN (
  SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY organization_id ORDER BY id) AS place FROM documents) placed
   WHERE place % 10 = 0)
"""
_PLAIN_TABLE: Final = (
    "CREATE UNLOGGED TABLE plain_texts AS SELECT id, organization_id, to_tsvector('english', text) AS tsv FROM chunks",
    "CREATE INDEX ix_plain_tsv ON plain_texts USING gin (tsv)",
    "CREATE UNIQUE INDEX ix_plain_id ON plain_texts (id)",
    "GRANT SELECT ON plain_texts TO ibid_app",
    "ANALYZE plain_texts",
)


@dataclass(frozen=True, slots=True)
class Population:
    """So many organizations, the smallest and the largest of so many chunks; `plain` adds what plain fusion reads."""

    rows: int
    organizations: int
    smallest: int
    largest: int
    exact_up_to: int = 20_000
    plain: bool = True

    def sizes(self) -> list[int]:
        """Few large and many small: the n-th largest has about n to some power times less than the largest."""
        sizes: list[int] = []
        for hundredths in range(50, 500):
            parts = np.arange(1, self.organizations + 1) ** (-hundredths / 100)
            parts = (parts - parts[-1]) / (1 - parts[-1])
            sizes = [self.smallest + round(float(part) * (self.largest - self.smallest)) for part in parts]
            if sum(sizes) <= self.rows:
                break
        return sizes[::-1]


@contextmanager
def populated(population: Population) -> Iterator[tuple[Postgres, str]]:
    """The server and the URL of the database; it is filled once and kept for later runs."""
    files = [*seeding.schema_files(), Path(__file__), *(Path(of.__file__ or "") for of in (seeding, vectors))]
    cache = seeding.cache(f"retrieval-{population.rows}", corpus.fingerprint(*files, also=repr(population)))
    with postgres(cache.folder) as server:
        if not cache.is_filled:
            url = seeding.make_database(server, _DATABASE)
            uvloop.run(_fill(url, population, server))
            cache.mark_filled()
        yield server, server.url(_DATABASE)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[Database, asyncpg.Connection]]:
    """The product's way into it, and the owner's."""
    database = create_database(url, pool_size=16, overflow=2, connect_timeout_seconds=10)
    owner = await seeding.connect(url)
    try:
        yield database, owner
    finally:
        await owner.close()
        await database.close()


async def _fill(url: str, population: Population, server: Postgres) -> None:
    database = create_database(url, pool_size=2, overflow=2, connect_timeout_seconds=10)
    try:
        await migrations.upgrade(database)
        async with opened(url) as (_, owner):
            made = _Made(owner, server)
            await made.prepare()
            await store(url, population, made)
            await index(database, population, made)
            await wear(database, population, made)
    finally:
        await database.close()


class _Made:
    """Writes down how long each step took, and the CPU of PostgreSQL meanwhile."""

    def __init__(self, owner: asyncpg.Connection, server: Postgres) -> None:
        self.owner = owner
        self._server = server

    async def prepare(self) -> None:
        await self.owner.execute("CREATE TABLE made (what text, seconds float8, cpu_seconds float8)")

    async def timed(self, what: str, work: Awaitable[object]) -> None:
        started, cpu = time.monotonic(), self._server.cpu_seconds()
        await work
        spent = (time.monotonic() - started, self._server.cpu_seconds() - cpu)
        await self.owner.execute("INSERT INTO made VALUES ($1, $2, $3)", what, *spent)


async def store(url: str, population: Population, made: _Made) -> None:
    """Chunks by COPY; without the term index, which is built at once in a tenth of the time."""
    owner = made.owner
    definition = await owner.fetchval("SELECT indexdef FROM pg_indexes WHERE indexname = $1", _TERM_INDEX)
    await owner.execute(f"DROP INDEX {_TERM_INDEX}")
    sizes = [round(size / 0.9) for size in population.sizes()]
    tenants = [await seeding.add_organization(owner, f"Organization {place}") for place in range(len(sizes))]
    texts = itertools.cycle(corpus.many_passages(min(population.rows, _DISTINCT_TEXTS)))
    each = (vector for block in vectors.stream(seed=6) for vector in block)
    shares = ((tenant, itertools.islice(texts, count)) for tenant, count in zip(tenants, sizes, strict=True))
    stored = seeding.add_chunks(url, shares, embed=lambda _: next(each), embedding_model=MODEL)
    await made.timed("store", stored)
    await owner.execute(f"SET maintenance_work_mem = '{_BUILD_MEMORY_MB}MB'")
    await made.timed("terms", owner.execute(definition))


async def index(database: Database, population: Population, made: _Made) -> None:
    """The vector indexes as maintenance builds them."""
    await made.timed("exact", upkeep.ensure_exact_index(database, embedding_model=MODEL, dimension=DIMS))
    await made.owner.execute("ANALYZE chunks")
    await asyncio.sleep(1)  # for the statistics that the next one reads
    graphs = upkeep.ensure_vector_index(
        database,
        embedding_model=MODEL,
        dimension=DIMS,
        from_rows=population.exact_up_to,
        memory_mb=_BUILD_MEMORY_MB,
    )
    await made.timed("graphs", graphs)


async def wear(database: Database, population: Population, made: _Made) -> None:
    """Delete every tenth document, vacuum, and count the terms."""
    await made.timed("delete", made.owner.execute(_DELETED))
    await made.timed("vacuum", made.owner.execute("VACUUM (ANALYZE)"))
    await made.timed("count terms", upkeep.count_terms(database))
    if population.plain:
        for statement in _PLAIN_TABLE:
            await made.owner.execute(statement)


def machine() -> str:
    return f"{os.cpu_count()} cores, of which {len(os.sched_getaffinity(0))} are used"
