"""Upkeep of what search relies on, outside of any request: the estimates of the vocabulary and the indexes of a model."""

import hashlib
from typing import Final

import structlog
from sqlalchemy import text

from app.core.principal import SYSTEM
from app.db.engine import Database, translated_errors

log = structlog.get_logger(__name__)

_LOCK: Final = text("SELECT pg_try_advisory_xact_lock(hashtext('ibid lexeme statistics'))")

_SAMPLE_ROWS: Final = 10_000
_KEPT_LEXEMES: Final = 10_000
_WORTH_REFRESHING: Final = 0.1
_MAX_COVERED_DIMENSION: Final = 1_200
"""An index tuple holds 2.7 kB: no vector of more numbers fits beside the id."""

_CHANGES: Final = text("""
SELECT n_tup_ins + n_tup_del AS changes, n_live_tup AS rows FROM pg_stat_user_tables WHERE relname = 'chunks'
   AND schemaname = current_schema()
""")
_LANGUAGES: Final = """
SELECT CAST(language AS text) AS language, count(*) AS rows
  FROM chunks TABLESAMPLE SYSTEM ({percent:.6f}) REPEATABLE (1) GROUP BY 1
"""
_LEXEMES: Final = """
INSERT INTO lexeme_statistics (lexeme, share)
SELECT word, ndoc / CAST(:rows AS float8)
  FROM ts_stat('SELECT tsv FROM chunks TABLESAMPLE SYSTEM ({percent:.6f}) REPEATABLE (1)')
 ORDER BY ndoc DESC LIMIT :kept
"""
_LANGUAGE_SHARE: Final = text("INSERT INTO lexeme_statistics (lexeme, share) VALUES (:lexeme, :share)")


async def refresh_lexeme_statistics(database: Database, *, changes_seen: int) -> int:
    """Estimate anew, from a sample, how common each lexeme is, if a tenth of the chunks changed since `changes_seen`.

    Returns the number of changes to compare with the next time.
    """
    async with database.unit_of_work(SYSTEM) as session:
        changes, rows = (await session.execute(_CHANGES)).one_or_none() or (0, 0)
        if changes - changes_seen <= _WORTH_REFRESHING * rows or not await session.scalar(_LOCK):
            return changes_seen
        percent = min(100.0, 100.0 * _SAMPLE_ROWS / max(rows, 1))
        languages = (await session.execute(text(_LANGUAGES.format(percent=percent)))).all()
        sampled = sum(language.rows for language in languages)
        if sampled == 0:
            return changes_seen
        await session.execute(text("DELETE FROM lexeme_statistics"))
        await session.execute(
            text(_LEXEMES.format(percent=percent)), {"rows": sampled, "kept": _KEPT_LEXEMES}
        )
        shares = [(f" {language.language}", language.rows / sampled) for language in languages]
        for lexeme, share in [("", 0.5 / sampled), *shares]:
            await session.execute(_LANGUAGE_SHARE, {"lexeme": lexeme, "share": share})
        log.debug("lexeme_statistics_refreshed", sampled=sampled, rows=rows)
        return int(changes)


async def ensure_exact_index(database: Database, *, embedding_model: str, dimension: int) -> None:
    """The index that exact search reads instead of the table, where the vectors are short enough for one."""
    if dimension > _MAX_COVERED_DIMENSION:
        return
    await _ensure_index(
        database,
        name=_index_name("exact", embedding_model),
        definition="(organization_id, collection_id) INCLUDE (id, embedding)",
        embedding_model=embedding_model,
    )


async def ensure_vector_index(
    database: Database, *, embedding_model: str, dimension: int, from_rows: int
) -> None:
    """The HNSW index, once there are more chunks than any scope is searched exactly: inserts are faster without it."""
    async with database.unit_of_work(SYSTEM) as session:
        rows = (await session.execute(_CHANGES)).one_or_none()
    if rows is None or rows.rows <= from_rows:
        return
    await _ensure_index(
        database,
        name=_index_name("hnsw", embedding_model),
        definition=f"USING hnsw ((CAST(embedding AS halfvec({dimension:d}))) halfvec_cosine_ops)",
        embedding_model=embedding_model,
    )


def _index_name(kind: str, embedding_model: str) -> str:
    return f"ix_chunks_{kind}_{hashlib.sha256(embedding_model.encode()).hexdigest()[:12]}"


async def _ensure_index(database: Database, *, name: str, definition: str, embedding_model: str) -> None:
    """Build a partial index of one model's chunks unless it is there; reads and writes go on meanwhile."""
    with translated_errors():
        async with database.engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
            valid = await connection.scalar(
                text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"), {"name": name}
            )
            if valid or not await connection.scalar(
                text("SELECT pg_try_advisory_lock(hashtext('ibid index'))")
            ):
                return
            try:
                log.info("index_building", index=name)
                # A build that was cut off leaves an invalid index of this name behind.
                await connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"))
                await connection.execute(text("SET maintenance_work_mem = '256MB'"))
                # Parallel builds share memory through /dev/shm, which containers have 64 MB of.
                await connection.execute(text("SET max_parallel_maintenance_workers = 0"))
                # DDL takes no bound parameters: the name is a hash, and the model's quotes are doubled.
                model = embedding_model.replace("'", "''").replace(":", "\\:")
                await connection.execute(
                    text(
                        f"CREATE INDEX CONCURRENTLY {name} ON chunks {definition} WHERE embedding_model = '{model}'"
                    )
                )
                log.info("index_built", index=name)
            finally:
                await connection.execute(text("RESET maintenance_work_mem"))
                await connection.execute(text("RESET max_parallel_maintenance_workers"))
                await connection.execute(text("SELECT pg_advisory_unlock(hashtext('ibid index'))"))
