"""The state of an organization's part of the index: what is wrong with it, and mending that."""

from dataclasses import dataclass
from typing import Final

from app.core.audit import Action
from app.core.principal import SYSTEM, Principal
from app.db import queue, upkeep
from app.db.models import RebuildState
from app.db.queue import Backlog
from app.db.repositories.index_health import IndexHealthRepository
from app.db.repositories.rebuilds import RebuildRepository
from app.db.repositories.versions import VersionRepository
from app.services import access, audit, files
from app.services.runtime import Runtime

_MENDED_AT_ONCE: Final = 500

MESSAGES: Final = {
    "stuck_documents": "Documents that wait to be processed, but that no job is for.",
    "miscounted_documents": "Documents that have not the chunks that they should have.",
    "documents_of_another_model": "Documents with vectors of another embedding model than the index, which no search finds.",
    "misplaced_documents": "Documents whose chunks are in another collection than they are.",
    "orphaned_chunks": "Chunks of documents that are gone.",
    "chunks_without_terms": "Chunks that the full text search does not know yet.",
    "files_not_removed": "Files of deleted documents that are still stored.",
    "stale_statistics": "The statistics of terms are of a much smaller or larger index.",
}


@dataclass(frozen=True, slots=True)
class Health:
    """How often each problem is there, and what waits to be processed."""

    embedding_model: str
    problems: dict[str, int]
    backlog: Backlog

    @property
    def is_well(self) -> bool:
        return not any(self.problems.values())


@dataclass(frozen=True, slots=True)
class Repair:
    """What was begun; `remaining` documents are left for another call."""

    documents_started: int
    remaining: int
    files_removed: int


async def check(runtime: Runtime, principal: Principal) -> Health:
    """Raises AdminsOnly."""
    access.require_admin(principal)
    async with runtime.database.unit_of_work(principal) as session:
        repository = IndexHealthRepository(session, principal)
        problems = await repository.problems(embedding_model=runtime.index_build)
        backlog = Backlog(*await repository.queue())
    if await _is_being_counted(runtime):
        problems["miscounted_documents"] = 0
    return Health(runtime.indexed_model, problems, backlog)


async def _is_being_counted(runtime: Runtime) -> bool:
    """Whether a rebuild has just switched: until the old build is removed, documents have the counts of that."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        rebuild = await RebuildRepository(session).under_way()
    return rebuild is not None and rebuild.state == RebuildState.SWITCHED


async def repair(runtime: Runtime, principal: Principal) -> Repair:
    """Have processed anew what that mends, remove files, count terms; safe to call again and again. Raises AdminsOnly.

    What is served of a document is served until its new version is complete.
    """
    access.require_admin(principal)
    limit = 0 if await _is_being_counted(runtime) else _MENDED_AT_ONCE + 1
    async with runtime.database.unit_of_work(principal) as session:
        repository = IndexHealthRepository(session, principal)
        found = await repository.to_process_anew(embedding_model=runtime.index_build, limit=limit)
        for document_id in found[:_MENDED_AT_ONCE]:
            started = await VersionRepository(session, principal).start_again(document_id, {})
            if started is not None:
                await queue.enqueue(
                    session,
                    document_id=document_id,
                    organization_id=started.organization_id,
                    generation=started.generation,
                )
    removed = await files.sweep(runtime)
    await upkeep.count_terms(runtime.database)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        await audit.record(
            session,
            Action.INDEX_REPAIRED,
            organization_id=principal.organization,
            object_type="index",
            after={"documents_started": min(len(found), _MENDED_AT_ONCE), "files_removed": removed},
        )
    return Repair(min(len(found), _MENDED_AT_ONCE), max(0, len(found) - _MENDED_AT_ONCE), removed)
