"""The wall alone: every repository method, with its own filters naming the victim, in the transaction of another.

A repository filters by its principal's organization, the database by the transaction's. Here the two differ: the
repository's principal is the victim, the transaction is the attacker's. Whatever a method asks for by name must then
come to nothing, although the same call in the victim's own transaction does something.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import numpy as np
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.access import Permission
from app.core.errors import UserNotFound
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.core.retrieval import Query, QueryTerm, Scope, SearchFilter, Trust
from app.db import queue, repositories
from app.db.engine import AnyTransaction, Database
from app.db.models import Base, Document, Stage
from app.db.queue import Claim
from app.db.repositories.base import Repository, TextRepository
from app.db.repositories.chunks import ChunkRepository, ScopeSizes
from app.db.repositories.collections import AccessListRepository, CollectionRepository
from app.db.repositories.conversations import ConversationRepository
from app.db.repositories.documents import DocumentRepository, NewChunk
from app.db.repositories.idempotency import IdempotencyRepository
from app.db.repositories.identity import IdentityRepository
from app.db.repositories.index_health import IndexHealthRepository
from app.db.repositories.outbox import OutboxRepository
from app.db.repositories.places import PlaceRepository
from app.db.repositories.texts import TextsRepository
from app.db.repositories.turns import NewTurn, TurnRepository
from app.db.repositories.versions import NewPage, VersionRepository
from app.db.repositories.visibility import VisibilityRepository

for module in pkgutil.iter_modules(repositories.__path__):
    importlib.import_module(f"{repositories.__name__}.{module.name}")

# These work in transactions of the system principal; their tables are out of the application's reach altogether.
OF_CREDENTIALS = {"ApiKeyRepository", "OneTimeRepository", "UserRepository"}
METHODS = {
    f"{kind.__name__}.{name}"
    for kind in (*Repository.__subclasses__(), *TextRepository.__subclasses__())
    if kind.__name__ not in OF_CREDENTIALS
    for name, member in vars(kind).items()
    if inspect.isfunction(member) and not name.startswith("_")
}
METHODS |= {
    f"queue.{name}"
    for name, member in vars(queue).items()
    if inspect.iscoroutinefunction(member) and not name.startswith("_")
} - {"queue.claim", "queue.backlog", "queue.announce"}
"""Of the queue all but what the system principal does, and a notification, which touches no row."""

DIRECT = {
    name for name in METHODS if name.split(".")[0] in {c.__name__ for c in TextRepository.__subclasses__()}
}
VECTOR = np.ones(4, dtype=np.float32)
TERM = 4711
CHUNK = NewChunk(
    ordinal=7, page=1, start=0, end=6, text="canary", language="en", terms={TERM: 1.0}, embedding=VECTOR
)
NEW_DOCUMENT = {"title": "t", "content_type": "text/plain", "size_bytes": 1}


@dataclass(frozen=True)
class Victim:
    """Somebody's rows, by their ids."""

    principal: Principal
    collection_id: str
    document_id: str
    chunk_id: str
    answer_id: str
    listed_user: str
    claim: Claim

    def search(
        self, session: AsyncSession, visible: int, exact_up_to: int = 10_000, **where: Any
    ) -> Awaitable[list[Any]]:
        """With so many chunks pretended visible: few, and many with and without an exact search."""
        return ChunkRepository(session, self.principal).search(
            Query(VECTOR.tolist(), [QueryTerm(TERM, 1.0, 0, ("en",))], Trust(0.5, 0.7)),
            limit=5,
            where=SearchFilter(**where),
            embedding_model="m",
            exact_up_to=exact_up_to,
            sizes=_Pretending(visible),
        )


class _Pretending(ScopeSizes):
    """Says that a scope is large, so that the forms of the statement for large ones are taken."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def get(self, key: tuple[str, ...]) -> Scope:
        return Scope(self.size, {"en": 1.0}, rows=100_000)


Case = Callable[[Any, Victim], Awaitable[object]]


async def chunks_in_scope(session: AsyncSession, victim: Victim, **where: Any) -> int:
    scope = await ChunkRepository(session, victim.principal).scope(SearchFilter(**where), ScopeSizes())
    return scope.chunks + len(scope.languages)


async def found_of(session: AsyncSession, victim: Victim) -> set[str]:
    wanted = {victim.collection_id}
    return wanted - await VisibilityRepository(session, victim.principal).missing(wanted)


async def put_new_document(session: AsyncSession, v: Victim) -> object:
    return await DocumentRepository(session, v.principal).add_completed(
        {**NEW_DOCUMENT, "id": "doc_new", "collection_id": v.collection_id, "sha256": "new"}, ["page"]
    )


def add_text(session: AnyTransaction, v: Victim) -> Awaitable[object]:
    return TextsRepository(session, v.principal).add(
        {
            "collection_id": v.collection_id,
            "title": "t",
            "source": None,
            "content_type": "text/plain",
            "size_bytes": 1,
            "sha256": "text",
            "tags": [],
            "languages": ["en"],
            "metadata_": {},
            "origin": None,
            "chunk_count": 1,
        },
        "canary",
        [CHUNK],
        embedding_model="m",
    )


async def adopt(session: AsyncSession, v: Victim) -> object:
    """The document is the victim's as it was read once, whoever's transaction this is."""
    document = Document(id=v.document_id, collection_id=v.collection_id)
    adopted = await VersionRepository(session, v.principal).adopt(document, "file:/other")
    return None if adopted is document else adopted


async def problems_of(session: AsyncSession, v: Victim) -> object:
    problems = await IndexHealthRepository(session, v.principal).problems(embedding_model="another")
    return {name: count for name, count in problems.items() if count}


async def to_process_anew(session: AsyncSession, v: Victim) -> object:
    await queue.cancel(session, v.document_id)  # what waits already is left out
    return await IndexHealthRepository(session, v.principal).to_process_anew(
        embedding_model="another", limit=9
    )


async def queue_of(session: AsyncSession, v: Victim) -> object:
    return [number for number in await IndexHealthRepository(session, v.principal).queue() if number]


CASES: dict[str, list[Case]] = {
    "TextsRepository.look_up": [
        lambda s, v: TextsRepository(s, v.principal).look_up(collection_id=v.collection_id, sha256="0"),
        lambda s, v: TextsRepository(s, v.principal).look_up(collection_id=v.collection_id, sha256="none"),
    ],
    "TextsRepository.add": [add_text],
    "VisibilityRepository.missing": [found_of],
    "ChunkRepository.scope": [
        chunks_in_scope,
        lambda s, v: chunks_in_scope(s, v, collection_ids=(v.collection_id,)),
    ],
    "ChunkRepository.search": [
        lambda s, v: v.search(s, 1),
        lambda s, v: v.search(s, 1, collection_ids=(v.collection_id,)),
        lambda s, v: v.search(s, 10_000),
        lambda s, v: v.search(s, 10_000, collection_ids=(v.collection_id,)),
        lambda s, v: v.search(s, 10_001),
        lambda s, v: v.search(s, 10_001, collection_ids=(v.collection_id,)),
        lambda s, v: v.search(s, 10_000, document_ids=(v.document_id,)),
    ],
    "CollectionRepository.find": [
        lambda s, v: CollectionRepository(s, v.principal).find(v.collection_id),
        lambda s, v: CollectionRepository(s, v.principal).find(v.collection_id, lock=True),
    ],
    "PlaceRepository.keep": [lambda s, v: PlaceRepository(s, v.principal).keep(v.collection_id, within=None)],
    "PlaceRepository.default_id": [lambda s, v: PlaceRepository(s, v.principal).default_id()],
    "PlaceRepository.personal_id": [lambda s, v: PlaceRepository(s, v.principal).personal_id(name="P")],
    "CollectionRepository.newest": [
        lambda s, v: CollectionRepository(s, v.principal).newest(limit=9, after=None, offset=0, within=None)
    ],
    "CollectionRepository.counts": [
        lambda s, v: CollectionRepository(s, v.principal).counts([v.collection_id])
    ],
    "CollectionRepository.add": [lambda s, v: CollectionRepository(s, v.principal).add("N")],
    "CollectionRepository.change": [
        lambda s, v: CollectionRepository(s, v.principal).change(v.collection_id, {"name": "N"})
    ],
    "CollectionRepository.delete": [
        lambda s, v: CollectionRepository(s, v.principal).delete(v.collection_id)
    ],
    "AccessListRepository.users": [
        lambda s, v: AccessListRepository(s, v.principal).users(v.collection_id, limit=9, offset=0)
    ],
    "AccessListRepository.grant": [
        lambda s, v: AccessListRepository(s, v.principal).grant(
            v.collection_id, {v.principal.id: Permission.WRITE}
        ),
        lambda s, v: AccessListRepository(s, v.principal).grant(
            v.collection_id, {v.listed_user: Permission.WRITE}
        ),
    ],
    "AccessListRepository.revoke": [
        lambda s, v: AccessListRepository(s, v.principal).revoke(v.collection_id, v.listed_user)
    ],
    "AccessListRepository.revoke_others": [
        lambda s, v: AccessListRepository(s, v.principal).revoke_others(v.collection_id, keep=())
    ],
    "VisibilityRepository.of_user": [lambda s, v: VisibilityRepository(s, v.principal).of_user()],
    "VisibilityRepository.existing": [
        lambda s, v: VisibilityRepository(s, v.principal).existing(frozenset({v.collection_id}))
    ],
    "DocumentRepository.find": [
        lambda s, v: DocumentRepository(s, v.principal).find(v.document_id),
        lambda s, v: DocumentRepository(s, v.principal).find(
            v.document_id, within={v.collection_id}, lock=True
        ),
    ],
    "DocumentRepository.newest": [
        lambda s, v: DocumentRepository(s, v.principal).newest(limit=9, after=None, offset=0, conditions={})
    ],
    "DocumentRepository.add_completed": [put_new_document],
    "DocumentRepository.replace": [
        lambda s, v: DocumentRepository(s, v.principal).replace(v.document_id, {"title": "N"}, ["new"])
    ],
    "DocumentRepository.change": [
        lambda s, v: DocumentRepository(s, v.principal).change(v.document_id, {"tags": ["n"]})
    ],
    "DocumentRepository.add_chunks": [
        lambda s, v: DocumentRepository(s, v.principal).add_chunks(
            v.document_id, [CHUNK], embedding_model="m"
        )
    ],
    "DocumentRepository.chunks": [
        lambda s, v: DocumentRepository(s, v.principal).chunks(v.document_id, limit=9, offset=0)
    ],
    "DocumentRepository.chunk": [
        lambda s, v: DocumentRepository(s, v.principal).chunk(v.document_id, v.chunk_id)
    ],
    "DocumentRepository.delete": [lambda s, v: DocumentRepository(s, v.principal).delete(v.document_id)],
    "VersionRepository.add_uploaded": [
        lambda s, v: VersionRepository(s, v.principal).add_uploaded(
            {**NEW_DOCUMENT, "id": "doc_new", "collection_id": v.collection_id, "sha256": "new"}
        )
    ],
    "VersionRepository.find_same": [
        lambda s, v: VersionRepository(s, v.principal).find_same(collection_id=v.collection_id, sha256="0")
    ],
    "VersionRepository.find_by_origin": [
        lambda s, v: VersionRepository(s, v.principal).find_by_origin(
            collection_id=v.collection_id, origin="file:/canary"
        )
    ],
    "VersionRepository.adopt": [adopt],
    "VersionRepository.start_again": [
        lambda s, v: VersionRepository(s, v.principal).start_again(v.document_id, {"pending": {"a": 1}})
    ],
    "VersionRepository.stop": [lambda s, v: VersionRepository(s, v.principal).stop(v.document_id, {})],
    "VersionRepository.show_progress": [
        lambda s, v: VersionRepository(s, v.principal).show_progress(v.claim, Stage.PARSING, 0.5)
    ],
    "VersionRepository.lock": [lambda s, v: VersionRepository(s, v.principal).lock(v.claim)],
    "VersionRepository.settle": [
        lambda s, v: VersionRepository(s, v.principal).settle(v.document_id, {"title": "N"})
    ],
    "VersionRepository.clear": [
        lambda s, v: VersionRepository(s, v.principal).clear(v.document_id, pages=True)
    ],
    "VersionRepository.add_pages": [
        lambda s, v: VersionRepository(s, v.principal).add_pages(v.document_id, [NewPage(9, "page")])
    ],
    "VersionRepository.pages": [
        lambda s, v: VersionRepository(s, v.principal).pages(v.document_id, limit=9, offset=0)
    ],
    "IndexHealthRepository.problems": [problems_of],
    "IndexHealthRepository.to_process_anew": [to_process_anew],
    "IndexHealthRepository.queue": [queue_of],
    "OutboxRepository.add": [
        lambda s, v: OutboxRepository(s, v.principal).add("k2", grace=timedelta(minutes=1))
    ],
    "OutboxRepository.keep": [lambda s, v: OutboxRepository(s, v.principal).keep("k1")],
    "OutboxRepository.drop": [lambda s, v: OutboxRepository(s, v.principal).drop("k1")],
    "IdempotencyRepository.begin": [
        lambda s, v: IdempotencyRepository(s, v.principal).begin("new", route="r", **IDEMPOTENT),
        lambda s, v: IdempotencyRepository(s, v.principal).begin("known", route="r", **IDEMPOTENT),
    ],
    "IdempotencyRepository.answer": [
        lambda s, v: IdempotencyRepository(s, v.principal).answer(
            "known", fingerprint="f", status=200, body={}
        )
    ],
    "IdempotencyRepository.forget": [lambda s, v: IdempotencyRepository(s, v.principal).forget("known")],
    "queue.enqueue": [
        lambda s, v: queue.enqueue(
            s, document_id=v.document_id, organization_id=v.principal.organization, generation=9
        )
    ],
    "queue.extend": [lambda s, v: queue.extend(s, v.claim, lease=timedelta(seconds=9))],
    "queue.finish": [lambda s, v: queue.finish(s, v.claim)],
    "queue.postpone": [lambda s, v: queue.postpone(s, v.claim, pause=timedelta(seconds=9))],
    "queue.release": [lambda s, v: queue.release(s, v.claim)],
    "queue.cancel": [lambda s, v: queue.cancel(s, v.document_id)],
    "queue.holds": [lambda s, v: queue.holds(s, v.claim)],
    "queue.is_queued": [lambda s, v: queue.is_queued(s, v.document_id)],
    "TurnRepository.open_turn": [
        lambda s, v: TurnRepository(s, v.principal).open_turn(new_turn("sess_2", "a"), history=9),
        lambda s, v: TurnRepository(s, v.principal).open_turn(new_turn("sess_new", "b"), history=9),
    ],
    "TurnRepository.interrupt_dead_answer": [
        lambda s, v: TurnRepository(s, v.principal).interrupt_dead_answer(
            "sess_1", before=datetime(2100, 1, 1, tzinfo=UTC)
        )
    ],
    "TurnRepository.finish_answer": [
        lambda s, v: TurnRepository(s, v.principal).finish_answer(v.answer_id, FINISHED)
    ],
    "ConversationRepository.find_session": [
        lambda s, v: ConversationRepository(s, v.principal).find_session("sess_1")
    ],
    "ConversationRepository.messages": [
        lambda s, v: ConversationRepository(s, v.principal).messages("sess_1", limit=9, offset=0)
    ],
}
IDEMPOTENT: dict[str, Any] = {"patience": timedelta(minutes=1), "lifetime": timedelta(hours=1)}
FINISHED: dict[str, Any] = {
    "content": "changed",
    "status": "complete",
    "sources": [],
    "usage": {},
    "model": "m",
    "refused": False,
    "finish_reason": "stop",
    "guardrails": None,
    "latency_ms": 1,
}


def new_turn(session_id: str, name: str) -> NewTurn:
    return NewTurn(session_id, "canary", f"msg_{name}_question", "canary", f"msg_{name}_answer", "m")


_READABLE = text("""
SELECT relname FROM pg_class
 WHERE relname = ANY(:tables) AND relnamespace = CAST(current_schema() AS regnamespace)
   AND has_table_privilege('ibid_app', oid, 'SELECT')
""")


async def readable(session: AsyncSession) -> list[str]:
    """The tables with an organization that the application's role reads at all."""
    walled = [table.name for table in Base.metadata.sorted_tables if "organization_id" in table.columns]
    return sorted((await session.execute(_READABLE, {"tables": walled})).scalars())


async def new_person(database: Database, name: str, *, organization_id: str | None = None) -> Principal:
    async with database.unit_of_work(SYSTEM) as session:
        identity = IdentityRepository(session)
        if organization_id is None:
            organization_id = await identity.add_organization(name)
        user_id = await identity.add_user(
            organization_id=organization_id, email=f"{name}@test", password_hash="none", role=Role.USER
        )
    return Principal(PrincipalKind.USER, user_id, organization_id, Role.USER, ALL_SCOPES)


async def new_victim(database: Database) -> Victim:
    """An organization with a row in every table that a repository reads."""
    principal = await new_person(database, "victim")
    other = await new_person(database, "listed", organization_id=principal.organization)
    async with database.unit_of_work(principal) as session:
        collections = CollectionRepository(session, principal)
        collection_id = (await collections.add("C")).id
        await AccessListRepository(session, principal).grant(collection_id, {other.id: Permission.READ})
        documents = DocumentRepository(session, principal)
        values = {
            **NEW_DOCUMENT,
            "id": "doc_1",
            "collection_id": collection_id,
            "sha256": "0",
            "chunk_count": 1,
            "origin": "file:/canary",
        }
        assert await documents.add_completed(values, ["canary"]) is not None
        first = replace(CHUNK, ordinal=0)
        await documents.add_chunks("doc_1", [first], embedding_model="m")
        chunk_id = (await documents.chunks("doc_1", limit=1, offset=0))[0].id
        turns = TurnRepository(session, principal)
        assert await turns.open_turn(new_turn("sess_1", "first"), history=0) == []
        assert await turns.open_turn(new_turn("sess_2", "second"), history=0) == []
        await turns.finish_answer("msg_second_answer", FINISHED)
        await queue.enqueue(
            session, document_id="doc_1", organization_id=principal.organization, generation=1
        )
        await OutboxRepository(session, principal).add("k1", grace=timedelta(hours=1))
        await IdempotencyRepository(session, principal).begin("known", route="r", **IDEMPOTENT)
    async with database.unit_of_work(SYSTEM) as session:
        claim = await queue.claim(session, claimed_by="worker", lease=timedelta(hours=1))
        assert claim is not None
    return Victim(principal, collection_id, "doc_1", chunk_id, "msg_first_answer", other.id, claim)


async def snapshot(session: AsyncSession) -> dict[str, list[str]]:
    """Every row that the transaction sees."""
    return {
        table: sorted((await session.execute(text(f"SELECT CAST({table} AS text) FROM {table}"))).scalars())
        for table in await readable(session)
    }


class Undo(Exception):
    """Ends a transaction without its effects."""


async def does_something(database: Database, victim: Victim, case: Case) -> bool:
    """Whether the call gives or changes anything in the victim's own transaction."""
    something = False
    try:
        async with database.unit_of_work(victim.principal) as session:
            before = await snapshot(session)
            result = await case(session, victim)
            something = bool(result) or await snapshot(session) != before
            raise Undo
    except Undo:
        return something


async def is_held(
    transaction: AbstractAsyncContextManager[AnyTransaction], victim: Victim, case: Case
) -> bool:
    """Whether the call gives nothing in the attacker's transaction: an error of the database, or an empty result."""
    try:
        async with transaction as session:
            return not await case(session, victim)
    except (NoResultFound, LookupError, UserNotFound):
        return True
    except (DBAPIError, asyncpg.PostgresError) as error:
        return "row-level security" in str(error)


def test_every_method_of_every_repository_has_a_case() -> None:
    assert set(CASES) == METHODS


async def test_the_database_alone_keeps_organizations_apart(database: Database) -> None:
    victim, attacker = await new_victim(database), await new_person(database, "attacker")
    async with database.unit_of_work(SYSTEM) as session:
        before = await snapshot(session)

    for name, cases in CASES.items():
        for number, case in enumerate(cases):
            assert await does_something(database, victim, case), (name, number)
            assert await is_held(database.unit_of_work(attacker), victim, case), (name, number)
            if name in DIRECT:
                assert await is_held(database.direct(attacker), victim, case), (name, number)

    async with database.unit_of_work(SYSTEM) as session:
        assert await snapshot(session) == before


async def test_without_an_organization_a_transaction_sees_nothing(database: Database) -> None:
    await new_victim(database)
    nobody = Principal(PrincipalKind.API_KEY, "key_1", None, Role.ADMIN, ALL_SCOPES)

    async with database.unit_of_work(nobody) as session:
        seen = await snapshot(session)

    assert len(seen) >= 7
    assert not any(seen.values())
