"""Databases filled by COPY as their owner: organizations with keys, chunks with vectors, sessions with a past."""

import asyncio
import itertools
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector, SparseVector
from pgvector.asyncpg import register_vector

from app.core import ids, security
from app.core.principal import ALL_SCOPES
from app.db.repositories.new_chunks import sparse
from app.rag import terms
from benchmarks import corpus
from benchmarks.processes import ROOT, Postgres, service
from benchmarks.report import Failed

EARLIER_MESSAGES: Final = 6

_CHUNKS_A_DOCUMENT: Final = 10
_ROWS_A_COPY: Final = 5_000
_INDEX_BUILD_SECONDS: Final = 900.0

_DOCUMENT_COLUMNS: Final = (
    *("id", "organization_id", "collection_id", "title", "content_type", "size_bytes", "sha256"),
    *("status", "page_count", "chunk_count", "languages"),
)
_STAGE: Final = """
CREATE TEMP TABLE staged (
  id text, organization_id text, collection_id text, document_id text, ordinal int, char_start int, char_end int,
  text text, terms int[], weights sparsevec, embedding halfvec)
"""
_FROM_STAGE: Final = """
INSERT INTO chunks (id, organization_id, collection_id, document_id, ordinal, page, char_start, char_end, text,
                    language, terms, weights, embedding, embedding_model)
SELECT id, organization_id, collection_id, document_id, ordinal, 1, char_start, char_end, text, 'en', terms, weights,
       embedding, $1
  FROM staged
"""
_VECTOR_INDEX: Final = """
SELECT pg_get_indexdef(i.indexrelid, 1, true) AS expression, pg_get_expr(i.indpred, i.indrelid) AS predicate
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
 WHERE a.amname = 'hnsw' AND i.indisvalid
"""
_BUILDING: Final = "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index)"


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organization and a key to it."""

    organization_id: str
    collection_id: str
    key_id: str
    key: str


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """The HNSW index as the catalog describes it, so that others can ask in a way that uses it."""

    expression: str
    predicate: str | None


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder that later runs find again."""

    folder: Path

    @property
    def is_filled(self) -> bool:
        return (self.folder / "filled").exists()

    def mark_filled(self) -> None:
        (self.folder / "filled").touch()


def cache(kind: str, key: str) -> Cache:
    """The folder of what was made of the inputs that `key` stands for; those of earlier inputs are deleted."""
    folder = Path(tempfile.gettempdir()) / "ibid-benchmarks" / kind / key
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.iterdir():
        if other != folder and not (other / "postgres" / "postmaster.pid").exists():
            shutil.rmtree(other, ignore_errors=True)
    return Cache(folder)


def schema_files() -> list[Path]:
    """What the tables and their indexes are made by."""
    return [*sorted((ROOT / "alembic" / "versions").glob("*.py")), ROOT / "app" / "db" / "upkeep.py"]


def make_database(server: Postgres, name: str, *, template: str = "template0") -> str:
    """An empty database, or a copy of another one; returns its URL."""
    for statement in (
        f"DROP DATABASE IF EXISTS {name} WITH (FORCE)",
        f"CREATE DATABASE {name} TEMPLATE {template}",
    ):
        asyncio.run(execute(server.url("postgres"), statement))
    return server.url(name)


def migrated_database(server: Postgres, name: str, settings: dict[str, str], folder: Path) -> str:
    """A database that the service itself migrated and claimed; returns its embedding model's fingerprint."""
    url = make_database(server, name)
    with service({**settings, "DB_URL": url}, folder, f"migrate-{name}"):
        return str(asyncio.run(_value(url, "SELECT embedding_model FROM index_state")))


async def add_organization(connection: asyncpg.Connection, name: str) -> Tenant:
    """An organization with its default collection and a key of all scopes."""
    organization_id, collection_id = ids.new(ids.Prefix.ORGANIZATION), ids.new(ids.Prefix.COLLECTION)
    await connection.execute("INSERT INTO organizations (id, name) VALUES ($1, $2)", organization_id, name)
    await connection.execute(
        "INSERT INTO collections (id, organization_id, name, is_default) VALUES ($1, $2, 'General', true)",
        collection_id,
        organization_id,
    )
    return await _with_new_key(connection, organization_id, collection_id)


async def tenant_of(url: str, name: str) -> Tenant:
    """The organization of this name in a database that was filled earlier, with a new key."""
    connection = await connect(url)
    try:
        row = await connection.fetchrow(
            "SELECT o.id, c.id AS collection_id FROM organizations o JOIN collections c ON c.organization_id = o.id"
            " WHERE o.name = $1 AND c.is_default",
            name,
        )
        await connection.execute("DELETE FROM api_keys WHERE organization_id = $1", row["id"])
        return await _with_new_key(connection, row["id"], row["collection_id"])
    finally:
        await connection.close()


async def _with_new_key(connection: asyncpg.Connection, organization_id: str, collection_id: str) -> Tenant:
    key, key_id = security.new_api_key(), ids.new(ids.Prefix.API_KEY)
    await connection.execute(
        "INSERT INTO api_keys (id, organization_id, name, public_part, secret_hash, scopes)"
        " VALUES ($1, $2, 'benchmark', $3, $4, $5)",
        key_id,
        organization_id,
        key.public,
        key.secret_hash,
        sorted(ALL_SCOPES),
    )
    return Tenant(organization_id, collection_id, key_id, str(key))


Embed = Callable[[str], NDArray[Any]]


async def add_chunks(
    url: str,
    tenants: Iterable[tuple[Tenant, Iterable[str]]],
    *,
    embed: Embed,
    embedding_model: str,
) -> None:
    """Store each tenant's texts as chunks of documents."""
    connection = await connect(url)
    try:
        await connection.execute(_STAGE)
        for tenant, texts in tenants:
            waiting = iter(texts)
            while batch := list(itertools.islice(waiting, _ROWS_A_COPY)):
                vectors = [embed(text).astype(np.float16) for text in batch]
                await _copy_documents(connection, tenant, list(zip(batch, vectors, strict=True)))
                await connection.execute(_FROM_STAGE, embedding_model)
                await connection.execute("TRUNCATE staged")
        await connection.execute("VACUUM (ANALYZE)")
    finally:
        await connection.close()


@lru_cache(maxsize=40_000)
def _terms_of(text: str) -> tuple[list[int], SparseVector]:
    found = terms.of_chunk(text, language="en")
    return sorted(found), sparse(found)


async def _copy_documents(
    connection: asyncpg.Connection, tenant: Tenant, rows: Sequence[tuple[str, np.ndarray[Any, Any]]]
) -> None:
    documents, pages, chunks = [], [], []
    for place in range(0, len(rows), _CHUNKS_A_DOCUMENT):
        part = rows[place : place + _CHUNKS_A_DOCUMENT]
        document_id = ids.new(ids.Prefix.DOCUMENT)
        page = "\n\n".join(text for text, _ in part)
        scope = (tenant.organization_id, tenant.collection_id)
        described = (document_id, *scope, part[0][0][:80], "text/plain", len(page.encode()), document_id)
        documents.append((*described, "completed", 1, len(part), ["en"]))
        pages.append((document_id, 1, tenant.organization_id, page))
        start = 0
        for ordinal, (text, vector) in enumerate(part):
            chunk = (ids.new(ids.Prefix.CHUNK), *scope, document_id, ordinal, start, start + len(text), text)
            chunks.append((*chunk, *_terms_of(text), HalfVector(vector)))
            start += len(text) + 2
    await connection.copy_records_to_table("documents", records=documents, columns=_DOCUMENT_COLUMNS)
    await connection.copy_records_to_table(
        "pages", records=pages, columns=["document_id", "number", "organization_id", "text"]
    )
    await connection.copy_records_to_table("staged", records=chunks)


async def replace_sessions(url: str, tenant: Tenant, count: int) -> list[str]:
    """Delete all sessions, and make new ones with six messages each; returns their ids."""
    questions = corpus.questions()
    answers = [passage.text for passage in corpus.passages()[:200]]
    chance = random.Random(3)
    names = [ids.new(ids.Prefix.SESSION) for _ in range(count)]
    messages = [
        (ids.new(ids.Prefix.MESSAGE), tenant.organization_id, name, role, chance.choice(texts), "complete")
        for name in names
        for _ in range(EARLIER_MESSAGES // 2)
        for role, texts in (("user", questions), ("assistant", answers))
    ]
    connection = await connect(url)
    try:
        # Not TRUNCATE: through their files it would reach the collections, and with them everything.
        await connection.execute("DELETE FROM sessions")
        await connection.copy_records_to_table(
            "sessions",
            records=[(tenant.organization_id, name, tenant.key_id, "Earlier") for name in names],
            columns=["organization_id", "id", "owner_id", "title"],
        )
        await connection.copy_records_to_table(
            "messages",
            records=messages,
            columns=["id", "organization_id", "session_id", "role", "content", "status"],
        )
        await connection.execute("VACUUM (ANALYZE) sessions, messages")
    finally:
        await connection.close()
    return names


async def vector_index(url: str, *, wait: bool) -> VectorIndex | None:
    """An index that the service has built; with `wait`, once it builds no more. Raises Failed when it does not come."""
    connection, looks = await connect(url), 0
    try:
        for _ in range(int(_INDEX_BUILD_SECONDS)):
            row = await connection.fetchrow(_VECTOR_INDEX)
            # Each large organization has one: for a moment there is none that is being built.
            looks = 0 if row is None or await connection.fetchval(_BUILDING) else looks + 1
            if row is not None and (looks > 2 or not wait):
                return VectorIndex(row["expression"], row["predicate"])
            if not wait:
                return None
            await asyncio.sleep(1)
    finally:
        await connection.close()
    raise Failed(f"the service built no vector index within {_INDEX_BUILD_SECONDS:.0f} s")


async def connect(url: str) -> asyncpg.Connection:
    """As the owner, whom no policy binds."""
    connection = await asyncpg.connect(url)
    await register_vector(connection)
    return connection


async def execute(url: str, statement: str) -> None:
    """Run a statement by itself, as the owner."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _value(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()
