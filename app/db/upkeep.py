"""Upkeep of the search's indexes, outside of any request: by the owner of the tables, each step in its own transaction."""

import hashlib
from typing import Final

import structlog
from sqlalchemy import text

from app.db.engine import Database, translated_errors

log = structlog.get_logger(__name__)

_LOCK: Final = text("SELECT pg_try_advisory_xact_lock(hashtext('ibid upkeep'))")

_REFRESH_LEXEMES: Final = (
    text("DELETE FROM lexeme_statistics"),
    text("""
INSERT INTO lexeme_statistics (lexeme, share)
SELECT lexeme, share
  FROM pg_stats,
       unnest(CAST(CAST(most_common_elems AS text) AS text[]), most_common_elem_freqs) AS s (lexeme, share)
 WHERE schemaname = current_schema() AND tablename = 'chunks' AND attname = 'tsv' AND lexeme IS NOT NULL
"""),
)


async def refresh_lexeme_statistics(database: Database) -> None:
    """Copy how common each lexeme is from PostgreSQL's statistics, which a policy hides from the application's role."""
    with translated_errors():
        async with database.engine.begin() as connection:
            if not await connection.scalar(_LOCK):
                return
            for statement in _REFRESH_LEXEMES:
                await connection.execute(statement)


async def ensure_vector_index(
    database: Database, *, embedding_model: str, dimension: int, from_rows: int
) -> None:
    """Build the HNSW index of a model once there are more chunks than any scope is searched exactly; reads go on."""
    name = "ix_chunks_hnsw_" + hashlib.sha256(embedding_model.encode()).hexdigest()[:12]
    with translated_errors():
        async with database.engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
            rows = await connection.scalar(
                text("SELECT reltuples FROM pg_class WHERE oid = CAST('chunks' AS regclass)")
            )
            valid = await connection.scalar(
                text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"), {"name": name}
            )
            if valid or (rows or 0) <= from_rows:
                return
            if not await connection.scalar(
                text("SELECT pg_try_advisory_lock(hashtext('ibid vector index'))")
            ):
                return
            try:
                log.info("vector_index_building", index=name, rows=int(rows or 0))
                # A build that was cut off leaves an invalid index of this name behind.
                await connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"))
                await connection.execute(text("SET maintenance_work_mem = '256MB'"))
                await connection.execute(text(_hnsw(name, embedding_model, dimension)))
                log.info("vector_index_built", index=name)
            finally:
                await connection.execute(text("RESET maintenance_work_mem"))
                await connection.execute(text("SELECT pg_advisory_unlock(hashtext('ibid vector index'))"))


def _hnsw(name: str, embedding_model: str, dimension: int) -> str:
    """DDL takes no bound parameters; the name is a hash, the dimension a number, the model's quotes are doubled."""
    model = embedding_model.replace("'", "''").replace(":", "\\:")
    return (
        f"CREATE INDEX CONCURRENTLY {name} ON chunks USING hnsw ((CAST(embedding AS halfvec({dimension:d})))"
        f" halfvec_cosine_ops) WHERE embedding_model = '{model}'"
    )
