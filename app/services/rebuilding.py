"""The work of a rebuild: one document after the other for the build to come, the switch, and what goes with the old build.

Everything here may die at any moment and be done again by another process: a document is built by one transaction, the switch
is another, and cleaning starts over.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from app.core.chunking import ChunkingSettings
from app.core.errors import AppError, Category
from app.core.principal import SYSTEM, worker_of
from app.db import upkeep
from app.db.engine import Transaction
from app.db.models import Document, IndexRebuild, RebuildState
from app.db.repositories import index_state
from app.db.repositories.collections import CollectionRepository
from app.db.repositories.documents import DocumentRepository
from app.db.repositories.index_state import IndexStateRepository
from app.db.repositories.rebuilds import BuildClaim, RebuildRepository, Waiting, build_of
from app.rag import index
from app.rag.chunking import Page
from app.services import chunks, embeddings, reading
from app.services.live_index import Served
from app.services.runtime import Runtime

log = structlog.get_logger(__name__)

_PASSING: Final = (Category.UNAVAILABLE, Category.GATEWAY_TIMEOUT, Category.INSUFFICIENT_STORAGE)
_FIRST_PAUSE_SECONDS: Final = 5.0
_CLEANED_AT_ONCE: Final = 20
_ALIVE: Final = 0.6
"""Of a lease, what a claim has left at least while its holder lives: it is extended each third of it."""

_LOCK_SECONDS: Final = 3.0
_LOOK_AGAIN_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Patience:
    """What a switch asks of those who store documents: to wait for so long, while so many that came last are built."""

    documents: int
    seconds: float
    queues_seconds: float
    """How long they wait because the switch itself waits for one of them; with 0 it looks for a gap between them."""


def patience(failures: int) -> Patience:
    """Each switch that came to nothing lets the next one ask for more, so that one succeeds whatever else there is to do."""
    more = 2 ** min(failures, 3)
    return Patience(8 * more, 5.0 * more, min(2.0**failures, 32.0) if failures else 0.0)


@dataclass(frozen=True, slots=True)
class Built:
    """A document's chunks for another build, to be stored by one transaction."""

    cut: chunks.Cut
    vectors: chunks.Vectors


async def of_target(runtime: Runtime, rebuild: IndexRebuild) -> Runtime:
    """The runtime as of the build that the rebuild makes.

    Raises InvalidRebuild where this process can't embed for it, ProviderError, ProviderUnavailable and ProviderTimeout.
    """
    build = build_of(rebuild)
    model = await embeddings.of_build(runtime, build)
    return runtime.on(Served(build, model, index.build(model.embedder)))


async def build(target: Runtime, rebuild: IndexRebuild, claim: BuildClaim) -> bool:
    """Build the claimed document; False when it was changed, deleted or taken by somebody else meanwhile.

    Raises AppError for what is away.
    """
    document = await _claimed(target, rebuild, claim)
    if document is None:
        return False
    title = document.title
    try:
        built = await _built(target, document)
    except AppError:
        if await _claimed(target, rebuild, claim) is None:  # its text went while it was read
            return False
        raise
    async with target.database.unit_of_work(SYSTEM) as session:
        repository = RebuildRepository(session)
        document = await repository.hold(claim.document_id, wait=True)
        # Asked once the document is held: cancelling cleans documents after it has said so.
        now = await repository.under_way()
        if now is None or now.id != rebuild.id or now.state != RebuildState.RUNNING:
            return False
        if document is None or document.built_for != -rebuild.number or document.title != title:
            return False  # the words of the title are among those of the chunks
        if not await repository.drop(claim):
            return False
        await _store(session, target, document, built, rebuild.number)
        if now.error is not None:
            await repository.change(rebuild.id, [RebuildState.RUNNING], {"error": None})
    return True


async def _claimed(target: Runtime, rebuild: IndexRebuild, claim: BuildClaim) -> Document | None:
    """The document, unless it was deleted or got new content since it was claimed."""
    principal = worker_of(claim.organization_id)
    async with target.database.unit_of_work(principal) as session:
        document = await DocumentRepository(session, principal).find(claim.document_id)
    return document if document is not None and document.built_for == -rebuild.number else None


async def _built(target: Runtime, document: Document) -> Built:
    principal = worker_of(document.organization_id)
    read = await reading.stored(target, principal, document)
    async with target.database.unit_of_work(principal) as session:
        collection = await CollectionRepository(session, principal).find(document.collection_id)
    plan = chunks.plan_of(target, collection.chunking if collection else ChunkingSettings())
    pages = [Page(page.number, page.text) for page in read.pages]
    # A title that is the beginning of the text was not given by anybody.
    title = document.title if document.title.rstrip("…") not in pages[0].text else ""
    cut = await chunks.cut(target, pages, plan, headings=read.headings, title=title)
    return Built(cut, await chunks.embed(target, principal, cut.chunks))


async def _store(
    session: Transaction, target: Runtime, document: Document, built: Built, number: int
) -> None:
    documents = DocumentRepository(session, worker_of(document.organization_id))
    await chunks.store(
        built.cut,
        built.vectors,
        lambda batch: documents.add_chunks(document.id, batch, embedding_model=target.index_build),
    )
    await RebuildRepository(session).mark_built(document.id, number)


async def failed(runtime: Runtime, rebuild: IndexRebuild, claim: BuildClaim, error: AppError) -> None:
    """Say why a document could not be built: it is tried again where that may pass, else the rebuild stops."""
    passing = error.category in _PASSING
    told = {
        "code": error.code,
        "message": error.message,
        "retryable": passing,
        "document_id": claim.document_id,
    }
    async with runtime.database.unit_of_work(SYSTEM) as session:
        repository = RebuildRepository(session)
        pause = max(_FIRST_PAUSE_SECONDS, error.retry_after_seconds or 0)
        await repository.postpone(claim, pause=timedelta(seconds=pause))
        state = RebuildState.RUNNING if passing else RebuildState.FAILED
        await repository.change(rebuild.id, [RebuildState.RUNNING], {"state": state, "error": told})
    log.warning("document_not_rebuilt", document_id=claim.document_id, reason=error.code, passing=passing)


async def prepare_indexes(target: Runtime) -> bool:
    """The indexes that searches of the new build need, built while it is not served; False while another process is at it."""
    database, name, dimension = target.database, target.index_build, target.indexed_dimension
    from_rows = target.settings.exact_search_max_values // dimension
    return await upkeep.ensure_exact_index(
        database, embedding_model=name, dimension=dimension
    ) and await upkeep.ensure_vector_index(
        database,
        embedding_model=name,
        dimension=dimension,
        from_rows=from_rows,
        memory_mb=target.settings.index_build_memory_mb,
    )


async def switch(target: Runtime, rebuild: IndexRebuild, asked: Patience) -> bool:
    """Make the new build the one that is served, at once for everybody; False when it is not the moment for it.

    Those who store documents wait meanwhile, those who search do not.
    """
    async with target.database.unit_of_work(SYSTEM) as session:
        if not await _locked(session, asked):
            return False
        repository, states = RebuildRepository(session), IndexStateRepository(session)
        now = await repository.under_way()
        served = await states.served()
        if now is None or now.id != rebuild.id or now.state != RebuildState.RUNNING or served is None:
            return False
        if not await _caught_up(session, target, rebuild, asked):
            return False
        await states.serve(target.served.build)
        await repository.forget_claims()
        await repository.switched(rebuild.id, previous_build=served.name)
    log.info("index_switched", build=target.index_build)
    await target.live.look()
    return True


async def _locked(session: Transaction, asked: Patience) -> bool:
    """Whoever is asked to wait for a lock keeps all waiting who come later: so a gap is looked for at first."""
    if asked.queues_seconds:
        return await index_state.lock(session, within_seconds=asked.queues_seconds)
    until = time.monotonic() + _LOCK_SECONDS
    while not await index_state.try_to_lock(session):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    return True


async def _caught_up(session: Transaction, target: Runtime, rebuild: IndexRebuild, asked: Patience) -> bool:
    """Build what came in the last moment, while nothing more can come."""
    repository = RebuildRepository(session)
    until = time.monotonic() + asked.seconds
    while missing := await _waiting(session, target, rebuild, asked):
        if time.monotonic() > until:
            return False
        for one in missing:
            document = None if one.claimed else await repository.hold(one.document_id, wait=False)
            if document is None or document.built_for == rebuild.number:  # somebody is at it
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
                continue
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    built = await _built(target, document)
            except TimeoutError:
                return False
            await _store(session, target, document, built, rebuild.number)
    return missing is not None


async def lacking(target: Runtime, rebuild: IndexRebuild, asked: Patience) -> frozenset[str] | None:
    """The few documents that a switch would have to build; None when they are more than it may wait for."""
    async with target.database.unit_of_work(SYSTEM) as session:
        found = await _waiting(session, target, rebuild, asked)
    return None if found is None else frozenset(one.document_id for one in found)


async def _waiting(
    session: Transaction, target: Runtime, rebuild: IndexRebuild, asked: Patience
) -> list[Waiting] | None:
    """A claim that has not been extended is a dead worker's, or a document that is to be tried again later."""
    lease = timedelta(seconds=target.settings.job_lease_seconds)
    found = await RebuildRepository(session).waiting(
        rebuild.number, limit=asked.documents + 1, alive=_ALIVE * lease
    )
    if len(found) > asked.documents or any(one.claimed and not one.alive for one in found):
        return None
    return found


async def clean(runtime: Runtime, *, kept: str, gone: str, going_on: Callable[[], bool]) -> bool:
    """Remove the chunks and indexes of every build but the one that is served; False when asked to stop before the end.

    Documents that come meanwhile have chunks of that one alone: who went on to them would never be done while they come.
    """
    await upkeep.drop_indexes(runtime.database, embedding_model=gone)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        until = await RebuildRepository(session).last_document()
    last: str | None = ""
    while last is not None:
        if not going_on():
            return False
        async with runtime.database.unit_of_work(SYSTEM) as session:
            repository = RebuildRepository(session)
            last = await repository.clean(after=last, until=until, kept=kept, limit=_CLEANED_AT_ONCE)
    return True
