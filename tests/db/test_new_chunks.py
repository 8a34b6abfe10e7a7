"""Chunks are stored as they are given, however they are encoded, and found whether or not the term index has them yet."""

import numpy as np
from sqlalchemy import text

from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.core.retrieval import TERM_DIMENSION, WeighedTerms
from app.db import upkeep
from app.db.engine import Database
from app.db.repositories.documents import DocumentRepository
from app.db.repositories.identity import IdentityRepository
from app.db.repositories.new_chunks import NewChunk, sparse
from app.db.repositories.places import PlaceRepository

TERMS: list[dict[int, float]] = [
    {7: 0.5, 3: 2.25},
    {},
    {1: 1.0, TERM_DIMENSION: 0.125},
    {n * 31 + 1: 1 + n / 64 for n in range(2_000)},
]


async def stored(database: Database) -> tuple[Principal, list[NewChunk]]:
    """One chunk for each of these terms, in a document of an organization of their own."""
    async with database.unit_of_work(SYSTEM) as session:
        organization_id = await IdentityRepository(session).add_organization("O")
    principal = Principal(PrincipalKind.API_KEY, "key_1", organization_id, Role.ADMIN, ALL_SCOPES)
    vectors = np.random.default_rng(1).standard_normal((len(TERMS), 8)).astype(np.float16)
    chunks = [
        NewChunk(n, 1, n, n + 1, f"text {n}", "en", WeighedTerms.of(terms), vectors[n])
        for n, terms in enumerate(TERMS)
    ]
    async with database.unit_of_work(principal) as session:
        documents = DocumentRepository(session, principal)
        values = {"id": "doc_1", "collection_id": await PlaceRepository(session, principal).default_id()}
        values |= {"title": "T", "content_type": "text/plain", "sha256": "0"}
        await documents.add_completed({**values, "size_bytes": 1, "chunk_count": len(chunks)}, ["p" * 9])
        await documents.add_chunks("doc_1", chunks, embedding_model="m")
        await documents.add_chunks("doc_1", [], embedding_model="m")
    return principal, chunks


async def matching(database: Database, principal: Principal, term: int) -> list[int]:
    """The chunks that the term index knows of, by their ordinals."""
    async with database.unit_of_work(principal) as session:
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        found = await session.execute(
            text(
                "SELECT c.ordinal FROM matchable_chunks m JOIN chunks c USING (id)"
                " WHERE m.scoped_terms && CAST(:terms AS int[]) ORDER BY c.ordinal"
            ),
            {"terms": [term]},
        )
        return list(found.scalars())


async def test_chunks_come_back_as_they_were_given(database: Database) -> None:
    principal, chunks = await stored(database)
    async with database.unit_of_work(principal) as session:
        found = await DocumentRepository(session, principal).chunks("doc_1", limit=10, offset=0)
        for row, chunk in zip(found, chunks, strict=True):
            await session.refresh(row, ["terms", "weights", "embedding"])
            place = (row.ordinal, row.page, row.char_start, row.char_end)
            assert place == (chunk.ordinal, 1, chunk.start, chunk.end)
            assert (row.text, row.language, row.embedding_model) == (chunk.text, "en", "m")
            assert row.terms == chunk.terms.numbers.tolist()
            assert row.weights == sparse(chunk.terms.as_mapping())
            assert list(row.embedding) == chunk.embedding.tolist()


async def test_terms_are_found_before_and_after_the_index_has_taken_them(database: Database) -> None:
    principal, _ = await stored(database)
    before = [await matching(database, principal, term) for term in (3, 32, TERM_DIMENSION)]

    await upkeep.empty_pending_terms(database)

    assert before == [[0], [3], [2]]
    assert [await matching(database, principal, term) for term in (3, 32, TERM_DIMENSION)] == before
    async with database.engine.connect() as connection:
        left = await connection.scalar(text("SELECT gin_clean_pending_list('ix_chunks_scoped_terms')"))
    assert left == 0
