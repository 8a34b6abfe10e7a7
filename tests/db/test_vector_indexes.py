"""Large organizations have a graph of their own, which their searches use; nobody else has one."""

import asyncpg
import pytest
from sqlalchemy import text

from app.core.principal import Principal
from app.core.retrieval import Query, Scope, SearchFilter, Trust
from app.db import upkeep
from app.db.engine import Database
from app.db.repositories.chunks import ChunkRepository, ScopeSizes
from app.db.repositories.vector_indexes import index_name
from tests.fixtures.large import DIMENSION, MODEL, add_large_organization
from tests.fixtures.postgres import open_database

NAMES = "SELECT relname FROM pg_class WHERE relname LIKE 'ix_chunks_hnsw%' ORDER BY 1"
SCANS = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = $1"


async def ensure(database: Database, from_rows: int) -> None:
    assert await upkeep.ensure_vector_index(
        database, embedding_model=MODEL, dimension=DIMENSION, from_rows=from_rows, memory_mb=64
    )


async def search(database: Database, principal: Principal, exact_up_to: int) -> list[str]:
    async with database.single(principal) as session:
        hits = await ChunkRepository(session, principal).search(
            Query([1.0] * DIMENSION, [], Trust(1.0, 1e-9)),
            limit=10,
            where=SearchFilter(),
            embedding_model=MODEL,
            exact_up_to=exact_up_to,
            sizes=ScopeSizes(),
        )
    return [hit.chunk_id for hit in hits]


async def test_graphs_follow_the_sizes_of_the_organizations(database: Database, database_url: str) -> None:
    owner = await asyncpg.connect(database_url)
    for organization_id, chunks in (("org_small", 100), ("org_half", 600), ("org_large", 1_001)):
        await add_large_organization(owner, organization_id, chunks)

    async def graphs() -> set[str]:
        return {row["relname"] for row in await owner.fetch(NAMES)}

    own = {each: index_name("hnsw", MODEL, each) for each in ("org_small", "org_half", "org_large")}
    shared = index_name("hnsw", MODEL)
    await owner.execute(f"CREATE INDEX {shared} ON chunks (id)")  # as earlier versions had one for all
    await ensure(database, 1_000)
    assert await graphs() == {own["org_large"]}

    await ensure(database, 500)
    assert await graphs() == {own["org_large"], own["org_half"]}

    await ensure(database, 1_000)  # it is not far below: a few documents more, and it would be built again
    assert await graphs() == {own["org_large"], own["org_half"]}

    await owner.execute("DELETE FROM organizations WHERE id = 'org_large'")
    await ensure(database, 1_000)
    assert await graphs() == {own["org_half"]}

    await upkeep.drop_indexes(database, embedding_model=MODEL)
    assert await graphs() == set()
    await owner.close()


async def test_a_large_organization_is_searched_by_its_own_graph_once_it_is_there(database_url: str) -> None:
    owner = await asyncpg.connect(database_url)
    await add_large_organization(owner, "org_other", 3_000)
    principal = await add_large_organization(owner, "org_large", 3_000)
    await owner.execute("VACUUM (ANALYZE) chunks")
    name = index_name("hnsw", MODEL, "org_large")
    database = open_database(database_url)
    exact = await search(database, principal, exact_up_to=1_000)  # there is no graph yet
    await ensure(database, 1_000)
    by_graph = await search(database, principal, exact_up_to=1_000)
    await database.close()  # which hands in the statistics of its connections

    assert await owner.fetchval(SCANS, name) == 1
    assert await owner.fetchval(SCANS, index_name("hnsw", MODEL, "org_other")) == 0
    assert len(set(exact) & set(by_graph)) >= 8
    assert all(chunk_id.startswith("chk_org_large") for chunk_id in by_graph)
    await owner.close()


@pytest.mark.parametrize(("chunks", "beam"), [(100_000, "100"), (250_000, "250"), (9_000_000, "1000")])
async def test_the_larger_a_graph_the_more_candidates_are_kept(
    database: Database, database_url: str, chunks: int, beam: str
) -> None:
    owner = await asyncpg.connect(database_url)
    principal = await add_large_organization(owner, "org_large", 10)
    await owner.close()
    sizes = ScopeSizes()
    sizes.put(("org_large",), Scope(chunks, {"en": 1.0}, rows=chunks))
    sizes.put_graph(index_name("hnsw", MODEL, "org_large"), True)

    async with database.single(principal) as session:
        hits = await ChunkRepository(session, principal).search(
            Query([1.0] * DIMENSION, [], Trust(1.0, 1e-9)),
            limit=10,
            where=SearchFilter(),
            embedding_model=MODEL,
            exact_up_to=1_000,
            sizes=sizes,
        )
        kept = await session.scalar(text("SELECT current_setting('hnsw.ef_search')"), {})
    async with database.direct(principal) as session:
        afterwards = await session.scalar(text("SELECT current_setting('hnsw.ef_search')"), {})

    assert (len(hits), kept, afterwards) == (10, beam, "100")
