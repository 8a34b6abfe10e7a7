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
from decimal import Decimal
from typing import Any

import asyncpg
import numpy as np
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.access import Permission
from app.core.errors import UserNotFound
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.core.retrieval import Query, QueryTerm, Scope, SearchFilter, Trust, WeighedTerms
from app.core.usage import (
    BudgetPeriod,
    BudgetSubject,
    ModelCall,
    NewBudget,
    Payer,
    Purpose,
    UsageFilter,
    UsageGroup,
)
from app.db import queue, repositories
from app.db.engine import AnyTransaction, Database
from app.db.models import Base, Document, Stage
from app.db.queue import Claim
from app.db.repositories.base import Repository, TextRepository
from app.db.repositories.bot_statistics import BotStatisticsRepository
from app.db.repositories.bots import (
    BotListRepository,
    BotRepository,
    BotUseRepository,
    BotVersionRepository,
)
from app.db.repositories.branches import BranchRepository, Place
from app.db.repositories.budgets import BudgetRepository
from app.db.repositories.chunk_terms import ChunkTermsRepository
from app.db.repositories.chunks import ChunkRepository, ScopeSizes
from app.db.repositories.collections import AccessListRepository, CollectionRepository
from app.db.repositories.conversations import ConversationRepository
from app.db.repositories.documents import DocumentRepository
from app.db.repositories.evaluations import EvaluationRepository, RunClaim
from app.db.repositories.idempotency import IdempotencyRepository
from app.db.repositories.identity import IdentityRepository
from app.db.repositories.index_health import IndexHealthRepository
from app.db.repositories.new_chunks import NewChunk
from app.db.repositories.outbox import OutboxRepository
from app.db.repositories.places import PlaceRepository
from app.db.repositories.session_files import SessionFileRepository
from app.db.repositories.sessions import SessionRepository
from app.db.repositories.shares import ShareRepository
from app.db.repositories.texts import TextsRepository
from app.db.repositories.turns import NewTurn, TurnRepository
from app.db.repositories.usage import UsageRepository
from app.db.repositories.versions import NewPage, VersionRepository
from app.db.repositories.visibility import VisibilityRepository

for module in pkgutil.iter_modules(repositories.__path__):
    importlib.import_module(f"{repositories.__name__}.{module.name}")

# These work in transactions of the system principal; their tables are out of the application's reach altogether.
OF_CREDENTIALS = {"ApiKeyRepository", "OneTimeRepository", "UserRepository"}
OF_WORKERS = {"queue.show_sign_of_life", "queue.sign_off", "queue.workers_alive"}
METHODS = {
    f"{kind.__name__}.{name}"
    for kind in (*Repository.__subclasses__(), *TextRepository.__subclasses__())
    if kind.__name__ not in OF_CREDENTIALS
    for name, member in vars(kind).items()
    if inspect.isfunction(member) and not name.startswith("_")
}
METHODS |= (
    {
        f"queue.{name}"
        for name, member in vars(queue).items()
        if inspect.iscoroutinefunction(member) and not name.startswith("_")
    }
    - {"queue.claim", "queue.backlog", "queue.announce", "queue.wake"}
    - OF_WORKERS
)
"""Of the queue all but what the system principal does, and notifications, which touch no row."""

DIRECT = {
    name for name in METHODS if name.split(".")[0] in {c.__name__ for c in TextRepository.__subclasses__()}
}
VECTOR = np.ones(4, dtype=np.float32)
TERM = 4711
CHUNK = NewChunk(
    ordinal=7,
    page=1,
    start=0,
    end=6,
    text="canary",
    language="en",
    terms=WeighedTerms.of({TERM: 1.0}),
    embedding=VECTOR,
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
    bot_id: str
    claim: Claim
    shelf_id: str
    set_id: str
    run: RunClaim
    budget_id: str

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


async def texts_of_ranges(session: AsyncSession, victim: Victim) -> list[str]:
    found = await ChunkRepository(session, victim.principal).texts_of_ranges([(victim.document_id, 1, 0, 5)])
    return [each for each in found if each is not None]


async def boxes_of_pages(session: AsyncSession, victim: Victim) -> list[Any]:
    found = await ChunkRepository(session, victim.principal).boxes_of_pages([(victim.document_id, 8)])
    return [each for each in found if each]


async def replace_terms(session: AsyncSession, victim: Victim) -> int:
    chunk_id = await session.scalar(text("SELECT id FROM chunks WHERE document_id = 'doc_1'"))
    return await ChunkTermsRepository(session, victim.principal).replace([chunk_id or "none"], [{TERM: 2.0}])


async def counted_evaluations(session: AsyncSession, victim: Victim) -> int:
    return sum(await EvaluationRepository(session, victim.principal).counts())


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


def part(session: AsyncSession, v: Victim) -> Awaitable[object]:
    document = Document(id=v.document_id, origin="file:/one", other_origins=["file:/two"])
    return VersionRepository(session, v.principal).part(document, "file:/one")


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


CALL = ModelCall(Purpose.ANSWER, "m", 5, 2, Decimal("0.1"))
WANTED = NewBudget(BudgetSubject.USER, None, BudgetPeriod.DAY, 10, None)


def payer(v: Victim) -> Payer:
    return Payer(v.principal.organization, "user", v.principal.id, "bot_1")


def usage_filter() -> UsageFilter:
    return UsageFilter(datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


async def summed(session: AnyTransaction, v: Victim) -> object:
    sums = await UsageRepository(session, v.principal).summed(usage_filter(), [UsageGroup.MODEL], limit=9)
    total = await UsageRepository(session, v.principal).summed(usage_filter(), [], limit=9)
    return sums or total[0].calls


async def finish_and_note(session: AnyTransaction, v: Victim) -> None:
    await TurnRepository(session, v.principal).finish_answer(
        v.answer_id, FINISHED, payer=payer(v), calls=[CALL]
    )


OTHER_ANSWER = Place("sess_2", "assistant", "changed")


async def siblings_of(session: AnyTransaction, v: Victim) -> object:
    branches = BranchRepository(session, v.principal)
    await branches.show(OTHER_ANSWER, "msg_second_answer")  # so that there are parents
    return await branches.siblings("sess_2", ["", "msg_second_question"])


async def state_of(session: AsyncSession, v: Victim) -> object:
    """The victim's session has files."""
    return (await TurnRepository(session, v.principal).state("sess_1")).files_id


async def turns_of_bot(session: AsyncSession, v: Victim) -> object:
    since, until = (datetime(year, 1, 1, tzinfo=UTC) for year in (2000, 2100))
    counted = await BotStatisticsRepository(session, v.principal).counts(v.bot_id, since=since, until=until)
    return counted.total.turns


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
    "ChunkRepository.boxes_of_pages": [
        boxes_of_pages,
    ],
    "ChunkRepository.texts_of_ranges": [
        texts_of_ranges,
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
    "ChunkTermsRepository.lock_stale": [
        lambda s, v: ChunkTermsRepository(s, v.principal).lock_stale("doc_1")
    ],
    "ChunkTermsRepository.mark": [lambda s, v: ChunkTermsRepository(s, v.principal).mark(v.document_id, 0)],
    "ChunkTermsRepository.chunks": [
        lambda s, v: ChunkTermsRepository(s, v.principal).chunks(v.document_id, first=0, many=9)
    ],
    "ChunkTermsRepository.replace": [replace_terms],
    "EvaluationRepository.find_set": [
        lambda s, v: EvaluationRepository(s, v.principal).find_set(name="canary"),
    ],
    "EvaluationRepository.sets": [lambda s, v: EvaluationRepository(s, v.principal).sets(limit=9, offset=0)],
    "EvaluationRepository.add_set": [lambda s, v: EvaluationRepository(s, v.principal).add_set("new", [])],
    "EvaluationRepository.delete_set": [
        lambda s, v: EvaluationRepository(s, v.principal).delete_set(v.set_id),
    ],
    "EvaluationRepository.find": [lambda s, v: EvaluationRepository(s, v.principal).find(v.run.run_id)],
    "EvaluationRepository.newest": [
        lambda s, v: EvaluationRepository(s, v.principal).newest(
            limit=9, after=None, offset=0, set_id=v.set_id
        )
    ],
    "EvaluationRepository.last_completed": [
        lambda s, v: EvaluationRepository(s, v.principal).last_completed(v.set_id, but="none")
    ],
    "EvaluationRepository.counts": [counted_evaluations],
    "EvaluationRepository.add": [
        lambda s, v: EvaluationRepository(s, v.principal).add(
            {"set_id": v.set_id, "name": "canary", "bot_id": "default"}
        )
    ],
    "EvaluationRepository.delete": [lambda s, v: EvaluationRepository(s, v.principal).delete(v.run.run_id)],
    "EvaluationRepository.update_claimed": [
        lambda s, v: EvaluationRepository(s, v.principal).update_claimed(v.run, {"progress": 0.5})
    ],
    "EvaluationRepository.forget_oldest": [
        lambda s, v: EvaluationRepository(s, v.principal).forget_oldest(keep=0)
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
    "BotUseRepository.in_use": [
        lambda s, v: BotUseRepository(s, v.principal).in_use(v.bot_id, user_id=None, known=None),
        lambda s, v: BotUseRepository(s, v.principal).in_use(v.bot_id, user_id=v.listed_user, known="x"),
    ],
    "BotRepository.find": [
        lambda s, v: BotRepository(s, v.principal).find(v.bot_id),
        lambda s, v: BotRepository(s, v.principal).find(v.bot_id, user_id=v.listed_user, lock=True),
    ],
    "BotRepository.newest": [
        lambda s, v: BotRepository(s, v.principal).newest(limit=9, after=None, offset=0, user_id=None)
    ],
    "BotRepository.add": [lambda s, v: BotRepository(s, v.principal).add({"name": "N"})],
    "BotRepository.change": [lambda s, v: BotRepository(s, v.principal).change(v.bot_id, {"name": "N"})],
    "BotRepository.delete": [lambda s, v: BotRepository(s, v.principal).delete(v.bot_id)],
    "BotStatisticsRepository.counts": [turns_of_bot],
    "BotVersionRepository.add": [
        lambda s, v: BotVersionRepository(s, v.principal).add(v.bot_id, 2, settings={}, secrets={}, note="")
    ],
    "BotVersionRepository.find": [lambda s, v: BotVersionRepository(s, v.principal).find(v.bot_id, 1)],
    "BotVersionRepository.newest": [
        lambda s, v: BotVersionRepository(s, v.principal).newest(v.bot_id, limit=9, offset=0)
    ],
    "BotVersionRepository.in_use": [lambda s, v: BotVersionRepository(s, v.principal).in_use([v.bot_id])],
    "BotListRepository.collections": [lambda s, v: BotListRepository(s, v.principal).collections([v.bot_id])],
    "BotListRepository.set_collections": [
        lambda s, v: BotListRepository(s, v.principal).set_collections(v.bot_id, [])
    ],
    "BotListRepository.users": [
        lambda s, v: BotListRepository(s, v.principal).users(v.bot_id, limit=9, offset=0)
    ],
    "BotListRepository.add_users": [
        lambda s, v: BotListRepository(s, v.principal).add_users(v.bot_id, [v.principal.id])
    ],
    "BotListRepository.remove_user": [
        lambda s, v: BotListRepository(s, v.principal).remove_user(v.bot_id, v.listed_user)
    ],
    "BotListRepository.remove_other_users": [
        lambda s, v: BotListRepository(s, v.principal).remove_other_users(v.bot_id, keep=())
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
    "VersionRepository.part": [part],
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
    "TurnRepository.hand_to_bot": [
        lambda s, v: TurnRepository(s, v.principal).hand_to_bot(
            v.answer_id, model="other", bot_version_id="botv_1"
        )
    ],
    "TurnRepository.state": [state_of],
    "TurnRepository.interrupt_dead_answer": [
        lambda s, v: TurnRepository(s, v.principal).interrupt_dead_answer(
            "sess_1", before=datetime(2100, 1, 1, tzinfo=UTC)
        )
    ],
    "TurnRepository.finish_answer": [
        lambda s, v: TurnRepository(s, v.principal).finish_answer(v.answer_id, FINISHED),
        finish_and_note,
    ],
    "UsageRepository.note": [lambda s, v: UsageRepository(s, v.principal).note(payer(v), [CALL])],
    "UsageRepository.budgeted": [lambda s, v: UsageRepository(s, v.principal).budgeted()],
    "UsageRepository.reserve": [
        lambda s, v: UsageRepository(s, v.principal).reserve(
            payer(v), "r1", tokens=1, usd=Decimal(1), lease=timedelta(hours=1)
        )
    ],
    "UsageRepository.settle": [
        lambda s, v: UsageRepository(s, v.principal).settle(payer(v), "r0", tokens=1, usd=Decimal(1))
    ],
    "UsageRepository.summed": [summed],
    "UsageRepository.warned": [
        lambda s, v: UsageRepository(s, v.principal).warned(share=Decimal(0), subject_id=None, limit=9)
    ],
    "BudgetRepository.find": [
        lambda s, v: BudgetRepository(s, v.principal).find(v.budget_id),
        lambda s, v: BudgetRepository(s, v.principal).find(v.budget_id, lock=True),
    ],
    "BudgetRepository.newest": [
        lambda s, v: BudgetRepository(s, v.principal).newest(limit=9, after=None, offset=0)
    ],
    "BudgetRepository.count": [lambda s, v: BudgetRepository(s, v.principal).count()],
    "BudgetRepository.add": [lambda s, v: BudgetRepository(s, v.principal).add(WANTED)],
    "BudgetRepository.change": [
        lambda s, v: BudgetRepository(s, v.principal).change(v.budget_id, {"max_tokens": 5})
    ],
    "BudgetRepository.delete": [lambda s, v: BudgetRepository(s, v.principal).delete(v.budget_id)],
    "BudgetRepository.spending": [lambda s, v: BudgetRepository(s, v.principal).spending([v.budget_id])],
    "TurnRepository.find_answer": [lambda s, v: TurnRepository(s, v.principal).find_answer(v.answer_id)],
    "TurnRepository.write_part": [
        lambda s, v: TurnRepository(s, v.principal).write_part(v.answer_id, "changed", [])
    ],
    "TurnRepository.end_dead": [
        lambda s, v: TurnRepository(s, v.principal).end_dead(
            v.answer_id, status="interrupted", finish_reason="x"
        )
    ],
    "BranchRepository.find": [lambda s, v: BranchRepository(s, v.principal).find(v.answer_id)],
    "BranchRepository.answer_again": [
        lambda s, v: BranchRepository(s, v.principal).answer_again(
            OTHER_ANSWER, "msg_second_answer", answer_id="msg_again", model="m", history=9
        )
    ],
    "BranchRepository.ask_otherwise": [
        lambda s, v: BranchRepository(s, v.principal).ask_otherwise(
            OTHER_ANSWER,
            "msg_second_question",
            "q",
            question_id="msg_q",
            answer_id="msg_a",
            model="m",
            history=9,
        )
    ],
    "BranchRepository.show": [
        lambda s, v: BranchRepository(s, v.principal).show(OTHER_ANSWER, "msg_second_answer")
    ],
    "BranchRepository.siblings": [siblings_of],
    "ConversationRepository.find_session": [
        lambda s, v: ConversationRepository(s, v.principal).find_session("sess_1")
    ],
    "ConversationRepository.messages": [
        lambda s, v: ConversationRepository(s, v.principal).messages("sess_1", limit=9, offset=0)
    ],
}
LAST = (True, datetime(2100, 1, 1, tzinfo=UTC), "z")
_SESSION_CASES: dict[str, list[Case]] = {
    "SessionRepository.page": [
        lambda s, v: SessionRepository(s, v.principal).page(limit=9, after=None, offset=0),
        lambda s, v: SessionRepository(s, v.principal).page(limit=9, after=LAST, offset=0),
    ],
    "SessionRepository.examine": [
        lambda s, v: SessionRepository(s, v.principal).examine(["canary"], limit=9, after=None, messages=9),
        lambda s, v: SessionRepository(s, v.principal).examine(["canary"], limit=9, after=LAST, messages=9),
    ],
    "SessionRepository.find": [lambda s, v: SessionRepository(s, v.principal).find("sess_1")],
    "SessionRepository.change": [
        lambda s, v: SessionRepository(s, v.principal).change("sess_1", title="N", pinned=True)
    ],
    "SessionRepository.entitle": [lambda s, v: SessionRepository(s, v.principal).entitle("sess_1", "N")],
    "SessionRepository.summarise": [
        lambda s, v: SessionRepository(s, v.principal).summarise("sess_1", "N", through=1, known=None)
    ],
    "SessionRepository.judge": [
        lambda s, v: SessionRepository(s, v.principal).judge(v.answer_id, {"rating": "up"})
    ],
    "SessionRepository.delete": [
        lambda s, v: SessionRepository(s, v.principal).delete("sess_1", channel="c"),
    ],
    "SessionFileRepository.shelf": [
        lambda s, v: SessionFileRepository(s, v.principal).shelf("sess_1", title="N", name="N"),
        lambda s, v: SessionFileRepository(s, v.principal).shelf("sess_new", title="N", name="N"),
    ],
    "SessionFileRepository.progress": [
        lambda s, v: SessionFileRepository(s, v.principal).progress(v.shelf_id, known=["doc_filed"], limit=9)
    ],
    "SessionFileRepository.count": [lambda s, v: SessionFileRepository(s, v.principal).count(v.shelf_id)],
    "ShareRepository.add": [lambda s, v: add_share(s, v, "another")],
    "ShareRepository.count": [lambda s, v: ShareRepository(s, v.principal).count("sess_1")],
    "ShareRepository.newest": [
        lambda s, v: ShareRepository(s, v.principal).newest("sess_1", limit=9, offset=0)
    ],
    "ShareRepository.revoke": [lambda s, v: ShareRepository(s, v.principal).revoke("sess_1", None)],
}
CASES |= _SESSION_CASES


def add_share(session: AnyTransaction, v: Victim, token_hash: str) -> Awaitable[object]:
    return ShareRepository(session, v.principal).add(
        "sess_1", token_hash=token_hash, title="canary", messages=[], expires_at=None
    )


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


async def new_bot(session: AsyncSession, principal: Principal, collection_id: str, user_id: str) -> str:
    bot_id: str = (await BotRepository(session, principal).add({"name": "B", "visibility": "restricted"})).id
    await BotVersionRepository(session, principal).add(bot_id, 1, settings={}, secrets={}, note="")
    await BotListRepository(session, principal).set_collections(bot_id, [collection_id])
    await BotListRepository(session, principal).add_users(bot_id, [user_id])
    return bot_id


async def new_victim(database: Database) -> Victim:
    """An organization with a row in every table that a repository reads."""
    principal = await new_person(database, "victim")
    other = await new_person(database, "listed", organization_id=principal.organization)
    async with database.unit_of_work(principal) as session:
        collections = CollectionRepository(session, principal)
        collection_id = (await collections.add("C")).id
        await AccessListRepository(session, principal).grant(collection_id, {other.id: Permission.READ})
        bot_id = await new_bot(session, principal, collection_id, other.id)
        version = await BotVersionRepository(session, principal).find(bot_id, 1)
        assert version is not None
        documents = DocumentRepository(session, principal)
        values = {
            **NEW_DOCUMENT,
            "id": "doc_1",
            "collection_id": collection_id,
            "sha256": "0",
            "chunk_count": 1,
            "origin": "file:/canary",
            "terms_stale_from": 0,
        }
        assert await documents.add_completed(values, ["canary"]) is not None
        drawn = NewPage(8, "page", boxes='{"lines": []}')
        await VersionRepository(session, principal).add_pages("doc_1", [drawn])
        first = CHUNK._replace(ordinal=0)
        await documents.add_chunks("doc_1", [first], embedding_model="m")
        chunk_id = (await documents.chunks("doc_1", limit=1, offset=0))[0].id
        turns = TurnRepository(session, principal)
        assert await turns.open_turn(new_turn("sess_1", "first"), history=0) is not None
        assert (
            await turns.open_turn(replace(new_turn("sess_2", "second"), bot_version_id=version.id), history=0)
            is not None
        )
        await turns.finish_answer("msg_second_answer", FINISHED)
        assert await ShareRepository(session, principal).add(
            "sess_1", token_hash="known", title="canary", messages=[], expires_at=None
        )
        await queue.enqueue(
            session, document_id="doc_1", organization_id=principal.organization, generation=1
        )
        shelf = await SessionFileRepository(session, principal).shelf("sess_1", title="T", name="N")
        assert shelf is not None
        filed = {**values, "id": "doc_filed", "collection_id": shelf.collection_id, "chunk_count": 0}
        assert await documents.add_completed(filed, ["canary"]) is not None
        await OutboxRepository(session, principal).add("k1", grace=timedelta(hours=1))
        await IdempotencyRepository(session, principal).begin("known", route="r", **IDEMPOTENT)
        evaluations = EvaluationRepository(session, principal)
        set_id = (await evaluations.add_set("canary", [])).id
        ended = {"status": "completed", "ended_at": datetime(2026, 1, 1, tzinfo=UTC), "claimed_by": "worker"}
        values = {"set_id": set_id, "name": "canary", "bot_id": "default", **ended}
        run = RunClaim((await evaluations.add(values)).id, principal.organization, 1, "worker")
        budget = await BudgetRepository(session, principal).add(
            replace(WANTED, subject=BudgetSubject.ORGANIZATION)
        )
        usage = UsageRepository(session, principal)
        paying = Payer(principal.organization, "user", principal.id)
        await usage.reserve(paying, "r0", tokens=3, usd=Decimal(1), lease=timedelta(hours=1))
        assert await usage.note(paying, [CALL]) == 1
    async with database.unit_of_work(SYSTEM) as session:
        claim = await queue.claim(session, claimed_by="worker", lease=timedelta(hours=1))
        assert claim is not None
    return Victim(
        *(principal, collection_id, "doc_1", chunk_id, "msg_first_answer", other.id, bot_id, claim),
        *(shelf.collection_id, set_id, run, budget.id),
    )


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
