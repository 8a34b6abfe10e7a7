"""A search within many collections finds the same, whichever way the statement is put together."""

import numpy as np
import pytest

from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.core.retrieval import Query, Scope, SearchFilter, Trust, WeighedTerms
from app.db.engine import Database
from app.db.repositories.chunks import ChunkRepository, ScopeSizes
from app.db.repositories.collections import CollectionRepository
from app.db.repositories.documents import DocumentRepository
from app.db.repositories.identity import IdentityRepository
from app.db.repositories.new_chunks import NewChunk
from app.db.repositories.session_files import SessionFileRepository
from app.rag.terms import of_chunk, of_question


class Pretending(ScopeSizes):
    """Says how many chunks the collections of a filter hold, and the whole organization, and that it has a graph."""

    def __init__(self, visible: int, whole: int) -> None:
        super().__init__()
        self.visible, self.whole = visible, whole

    def has_graph(self, _: str) -> bool:
        return True

    def get(self, key: tuple[str, ...]) -> Scope:
        return Scope(self.whole if len(key) == 1 else self.visible, {"en": 1.0}, rows=100_000)


async def fill(database: Database) -> tuple[Principal, list[str]]:
    """Thirty collections with one chunk each; they differ in one word."""
    async with database.unit_of_work(SYSTEM) as session:
        organization_id = await IdentityRepository(session).add_organization("O")
    principal = Principal(PrincipalKind.API_KEY, "key_1", organization_id, Role.ADMIN, ALL_SCOPES)
    made = []
    async with database.unit_of_work(principal) as session:
        for number in range(30):
            collection_id = (await CollectionRepository(session, principal).add(f"C{number}")).id
            made.append(collection_id)
            await put(DocumentRepository(session, principal), number, collection_id)
    return principal, made


async def put(documents: DocumentRepository, number: int, collection_id: str) -> None:
    values = {"id": f"doc_{number}", "collection_id": collection_id, "sha256": str(number)}
    await documents.add_completed(
        {**values, "title": "T", "content_type": "text/plain", "size_bytes": 1, "chunk_count": 1},
        ["p"],
    )
    vector = np.zeros(32, dtype=np.float32)
    vector[number] = 1
    text = f"the heron number{number}"
    chunk = NewChunk(
        ordinal=0,
        page=1,
        start=0,
        end=9,
        text=text,
        language="en",
        terms=WeighedTerms.of(of_chunk(text, language="en")),
        embedding=vector,
    )
    await documents.add_chunks(f"doc_{number}", [chunk], embedding_model="m")


@pytest.mark.parametrize("whole", [10_000, 1_000_000], ids=["most of it", "a small part of it"])
@pytest.mark.parametrize("visible", [1, 10_000, 10_001], ids=["small", "exact", "hnsw"])
async def test_exactly_the_visible_collections_are_searched(
    database: Database, visible: int, whole: int
) -> None:
    principal, made = await fill(database)

    async with database.unit_of_work(principal) as session:
        hits = await ChunkRepository(session, principal).search(
            Query(
                [1.0] * 32,
                of_question("heron number3 number29", languages=["en"], spoken="en"),
                Trust(0.4, 0.7),
            ),
            limit=50,
            where=SearchFilter(collection_ids=tuple(made[:20])),
            embedding_model="m",
            exact_up_to=10_000,
            sizes=Pretending(visible, whole),
        )

    assert {hit.collection_id for hit in hits} == set(made[:20])
    assert hits[0].collection_id == made[3]


@pytest.mark.parametrize("whole", [10_000, 1_000_000], ids=["most of it", "a small part of it"])
@pytest.mark.parametrize("visible", [1, 10_000, 10_001], ids=["small", "exact", "hnsw"])
async def test_without_a_filter_files_of_sessions_are_left_out_but_those_of_the_one_that_is_named(
    database: Database, visible: int, whole: int
) -> None:
    principal, made = await fill(database)
    shelves = []
    async with database.unit_of_work(principal) as session:
        for number, name in ((30, "one"), (31, "another")):
            shelf = await SessionFileRepository(session, principal).shelf(name, title="T", name="N")
            assert shelf is not None
            shelves.append(shelf.collection_id)
            await put(DocumentRepository(session, principal), number, shelf.collection_id)

    found = []
    async with database.unit_of_work(principal) as session:
        for where in (SearchFilter(), SearchFilter(session_collection_id=shelves[0])):
            hits = await ChunkRepository(session, principal).search(
                Query(
                    [1.0] * 32,
                    of_question("heron number30 number31", languages=["en"], spoken="en"),
                    Trust(0.4, 0.7),
                ),
                limit=50,
                where=where,
                embedding_model="m",
                exact_up_to=10_000,
                sizes=Pretending(visible, whole if visible > 1 else visible),
            )
            found.append({hit.collection_id for hit in hits})

    assert found == [set(made), {*made, shelves[0]}]
