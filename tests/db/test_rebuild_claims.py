"""The documents of a rebuild: each has one builder, and whoever asks for one gets one while there are some."""

import asyncio
from datetime import timedelta

from sqlalchemy import text

from app.core import ids
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.db.engine import Database
from app.db.repositories.identity import IdentityRepository
from app.db.repositories.places import PlaceRepository
from app.db.repositories.rebuilds import RebuildRepository
from app.db.repositories.versions import VersionRepository
from tests.fixtures.postgres import open_database

LEASE = timedelta(seconds=60)
ROUNDS = 10
AT_ONCE = 8


async def documents_with_chunks(database: Database, count: int) -> set[str]:
    async with database.unit_of_work(SYSTEM) as session:
        organization_id = await IdentityRepository(session).add_organization("O")
    principal = Principal(PrincipalKind.OPERATOR, "op", organization_id, Role.ADMIN, ALL_SCOPES)
    stored = {ids.new(ids.Prefix.DOCUMENT) for _ in range(count)}
    async with database.unit_of_work(principal) as session:
        collection_id = await PlaceRepository(session, principal).default_id()
        for document_id in stored:
            values = {
                "id": document_id,
                "collection_id": collection_id,
                "title": "T",
                "content_type": "text/plain",
                "size_bytes": 1,
                "sha256": document_id,
            }
            await VersionRepository(session, principal).add_uploaded(values)
        await session.execute(text("UPDATE documents SET chunk_count = 1"))
    return stored


async def claimed(database: Database, by: str) -> str | None:
    async with database.unit_of_work(SYSTEM) as session:
        claim = await RebuildRepository(session).claim(1, claimed_by=by, lease=LEASE)
    return None if claim is None else claim.document_id


async def test_whoever_asks_for_a_document_to_build_gets_one_of_their_own_while_there_are_some(
    database_url: str,
) -> None:
    database = open_database(database_url, pool_size=AT_ONCE)
    stored = await documents_with_chunks(database, ROUNDS * AT_ONCE)
    taken = [
        await asyncio.gather(*(claimed(database, f"{round_}:{number}") for number in range(AT_ONCE)))
        for round_ in range(ROUNDS)
    ]
    assert sorted(each or "nothing" for round_ in taken for each in round_) == sorted(stored)
    assert await claimed(database, "too late") is None
    await database.close()
