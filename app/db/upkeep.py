"""Upkeep of what search relies on, outside of any request: the terms of the chunks, their counts, the vector indexes."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import structlog
from sqlalchemy import text

from app.core.principal import SYSTEM
from app.db.engine import Database, translated_errors
from app.db.repositories.new_chunks import sparse
from app.db.repositories.vector_indexes import (
    EXACT,
    GRAPHS,
    HAS_GRAPH,
    LARGE,
    MOST_GRAPHS,
    NAMED,
    index_name,
    literal,
)

log = structlog.get_logger(__name__)

_LOCK: Final = text("SELECT pg_try_advisory_xact_lock(hashtext('ibid term statistics'))")

_WORTH_COUNTING: Final = 0.1
_COUNTED_CHUNKS: Final = 50_000
_LEAST_COUNT: Final = 3
_MOST_TERMS: Final = 50_000
_EF_CONSTRUCTION: Final = 128
_MAX_COVERED_DIMENSION: Final = 1_200
"""An index tuple holds 2.7 kB: no vector of more numbers fits beside the id."""

# Chunks that came since an organization's terms were counted, and those that went.
_CHANGED: Final = text("""
SELECT organization_id, chunks
  FROM (SELECT d.organization_id, coalesce(t.chunks, 0) AS counted, sum(d.chunk_count) AS chunks,
               coalesce(sum(d.chunk_count) FILTER (WHERE d.updated_at > coalesce(t.counted_at, '-infinity')), 0) AS come
          FROM documents d LEFT JOIN term_counts t USING (organization_id)
         GROUP BY d.organization_id, t.chunks) now
 WHERE chunks > 0 AND come + greatest(counted + come - chunks, 0) > :worth * chunks
""")
_FORGET_COUNTS: Final = text("DELETE FROM term_statistics WHERE organization_id = :organization_id")
_COUNT_TERMS: Final = text("""
WITH counted AS MATERIALIZED (
  SELECT terms FROM chunks
   WHERE organization_id = :organization_id AND terms IS NOT NULL AND hashtext(id) & :every = 0
), total AS MATERIALIZED (
  SELECT CAST(count(*) AS float8) AS chunks FROM counted
)
INSERT INTO term_statistics (organization_id, term, share)
SELECT :organization_id, term, count(*) / (SELECT chunks FROM total)
  FROM counted, unnest(terms) AS term GROUP BY term HAVING count(*) >= :least ORDER BY count(*) DESC LIMIT :most
""")
_REMEMBER: Final = text("""
INSERT INTO term_counts (organization_id, chunks, counted_at) VALUES (:organization_id, :chunks, now())
ON CONFLICT (organization_id) DO UPDATE SET chunks = excluded.chunks, counted_at = excluded.counted_at
""")
_WITHOUT_TERMS: Final = text("""
SELECT c.id, c.document_id, c.text, c.heading,
       -- A title that is the beginning of the text was not given by anybody.
       CASE WHEN strpos((SELECT text FROM chunks WHERE document_id = c.document_id AND ordinal = 0),
                        rtrim(d.title, '…')) > 0 THEN '' ELSE d.title END AS title
  FROM chunks c JOIN documents d ON d.id = c.document_id
 WHERE c.terms IS NULL ORDER BY c.id LIMIT :limit FOR UPDATE OF c SKIP LOCKED
""")
_STALE_TITLES: Final = text("""
SELECT organization_id, id FROM documents WHERE terms_stale_from IS NOT NULL ORDER BY id LIMIT :limit
""")
_ADD_TERMS: Final = text("""
UPDATE chunks c SET language = n.language, terms = CAST(n.terms AS int[]), weights = n.weights
  FROM unnest(CAST(:ids AS text[]), CAST(:languages AS text[]), CAST(:terms AS text[]), CAST(:weights AS sparsevec[]))
       AS n (id, language, terms, weights)
 WHERE c.id = n.id
""")
_ADD_LANGUAGES: Final = text("""
UPDATE documents d
   SET languages = ARRAY(SELECT language FROM chunks WHERE document_id = d.id AND language IS NOT NULL
                          GROUP BY language ORDER BY count(*) DESC, language)
 WHERE d.id = ANY(CAST(:ids AS text[]))
""")


async def stale_titles(database: Database, *, limit: int) -> list[tuple[str, str]]:
    """Documents whose chunks do not know their title yet, each after the organization that it is of."""
    async with database.unit_of_work(SYSTEM) as session:
        rows = await session.execute(_STALE_TITLES, {"limit": limit})
    return [(row.organization_id, row.id) for row in rows]


async def count_terms(database: Database) -> int:
    """Count how common each term is in the organizations of which a tenth of the chunks came or went.

    Above 50,000 chunks a sample of about as many is counted. Returns the number of organizations.
    """
    async with database.unit_of_work(SYSTEM) as session:
        changed = (await session.execute(_CHANGED, {"worth": _WORTH_COUNTING})).all()
    for organization in changed:
        async with database.unit_of_work(SYSTEM) as session:
            if not await session.scalar(_LOCK):
                return 0
            of_organization = {"organization_id": organization.organization_id}
            every = 1
            while organization.chunks > every * _COUNTED_CHUNKS:
                every *= 2
            await session.execute(_FORGET_COUNTS, of_organization)
            await session.execute(
                _COUNT_TERMS,
                {"every": every - 1, "least": _LEAST_COUNT, "most": _MOST_TERMS, **of_organization},
            )
            await session.execute(_REMEMBER, {"chunks": organization.chunks, **of_organization})
        log.debug("terms_counted", chunks=organization.chunks, **of_organization)
    return len(changed)


async def add_missing_terms(
    database: Database,
    analyse: Callable[[str, str, str | None], tuple[str, Mapping[int, float]]],
    *,
    limit: int,
) -> int:
    """Give chunks that were stored by an earlier version their language and terms; returns how many, at most `limit`."""
    async with database.unit_of_work(SYSTEM) as session:
        chunks = (await session.execute(_WITHOUT_TERMS, {"limit": limit})).all()
        if not chunks:
            return 0
        analysed = [analyse(chunk.text, chunk.title or "", chunk.heading) for chunk in chunks]
        await session.execute(
            _ADD_TERMS,
            {
                "ids": [chunk.id for chunk in chunks],
                "languages": [language for language, _ in analysed],
                "terms": ["{" + ",".join(map(str, sorted(terms))) + "}" for _, terms in analysed],
                "weights": [sparse(terms) for _, terms in analysed],
            },
        )
        await session.execute(_ADD_LANGUAGES, {"ids": list({chunk.document_id for chunk in chunks})})
    return len(chunks)


async def empty_pending_terms(database: Database) -> None:
    """Bring what was inserted of late into the term index: until then every search reads it one by one."""
    with translated_errors():
        async with database.engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("SELECT gin_clean_pending_list('ix_chunks_scoped_terms')"))


async def ensure_exact_index(database: Database, *, embedding_model: str, dimension: int) -> bool:
    """The index that exact search reads instead of the table, where the vectors are short enough for one.

    Returns False while another process builds one.
    """
    if dimension > _MAX_COVERED_DIMENSION:
        return True
    return await _ensure_index(
        database,
        name=index_name(EXACT, embedding_model),
        definition="(organization_id, collection_id) INCLUDE (id, embedding)",
        condition=f"embedding_model = {literal(embedding_model)}",
    )


async def ensure_vector_index(
    database: Database, *, embedding_model: str, dimension: int, from_rows: int, memory_mb: int
) -> bool:
    """A graph (HNSW) for each organization of more chunks than are searched exactly, and none for others: inserts are faster without.

    A graph that fits into `memory_mb` (1.3 kB a chunk of 384 dimensions) is built several times faster than one that doesn't.

    Returns False while another process builds one.
    """
    async with database.unit_of_work(SYSTEM) as session:
        large = (await session.execute(LARGE, {"from_rows": from_rows, "most": MOST_GRAPHS})).all()
    for organization in large:
        if organization.needed and not await _ensure_index(
            database,
            name=index_name(GRAPHS, embedding_model, organization.organization_id),
            definition=f"USING hnsw ((CAST(embedding AS halfvec({dimension:d}))) halfvec_cosine_ops)"
            f" WITH (ef_construction = {_EF_CONSTRUCTION})",
            condition=f"embedding_model = {literal(embedding_model)}"
            f" AND organization_id = {literal(organization.organization_id)}",
            memory_mb=memory_mb,
        ):
            return False
    kept = {index_name(GRAPHS, embedding_model, organization.organization_id) for organization in large}
    await _drop(database, prefixes=[index_name(GRAPHS, embedding_model)], kept=kept)
    return True


async def drop_indexes(database: Database, *, embedding_model: str) -> None:
    """Remove the indexes of a build that is not searched any more; reads and writes go on meanwhile."""
    await _drop(database, prefixes=[index_name(kind, embedding_model) for kind in (EXACT, GRAPHS)])


async def _drop(database: Database, *, prefixes: Sequence[str], kept: Collection[str] = ()) -> None:
    with translated_errors():
        async with database.engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
            for prefix in prefixes:
                for index in (await connection.execute(NAMED, {"prefix": prefix})).all():
                    if index.name not in kept:
                        await connection.execute(text(f'DROP INDEX CONCURRENTLY IF EXISTS "{index.name}"'))


async def _ensure_index(
    database: Database, *, name: str, definition: str, condition: str, memory_mb: int = 256
) -> bool:
    """Build a partial index unless it is there; reads and writes go on meanwhile.

    Returns False while another process builds one.
    """
    with translated_errors():
        async with database.engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
            if await connection.scalar(HAS_GRAPH, {"name": name}):
                return True
            if not await connection.scalar(text("SELECT pg_try_advisory_lock(hashtext('ibid index'))")):
                return False
            try:
                log.info("index_building", index=name)
                # A build that was cut off leaves an invalid index of this name behind.
                await connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"))
                await connection.execute(text(f"SET maintenance_work_mem = '{memory_mb:d}MB'"))
                # Parallel builds share memory through /dev/shm, which containers have 64 MB of.
                await connection.execute(text("SET max_parallel_maintenance_workers = 0"))
                # DDL takes no bound parameters: the name is made of hashes, and what the condition names is quoted.
                await connection.execute(
                    text(f"CREATE INDEX CONCURRENTLY {name} ON chunks {definition} WHERE {condition}")
                )
                log.info("index_built", index=name)
                return True
            finally:
                await connection.execute(text("RESET maintenance_work_mem"))
                await connection.execute(text("RESET max_parallel_maintenance_workers"))
                await connection.execute(text("SELECT pg_advisory_unlock(hashtext('ibid index'))"))
