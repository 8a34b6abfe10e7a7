"""Rebuilds of the index: who may start, see and cancel which."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from app.core import ids
from app.core.audit import Action
from app.core.chunking import ChunkingSettings
from app.core.errors import InvalidRebuild, NoRebuild, RebuildNotRunning, RebuildUnderWay
from app.core.principal import SYSTEM, Principal, Role
from app.db.engine import Transaction
from app.db.models import IndexRebuild, RebuildState
from app.db.repositories.rebuilds import RebuildRepository
from app.services import access, audit, auth, embeddings
from app.services.runtime import Runtime

_LONGEST_VECTOR: Final = 4_000
"""No vector index of pgvector takes more half-precision numbers."""

_STARTS: Final = (RebuildState.RUNNING, RebuildState.FAILED)


class Extent(StrEnum):
    INSTALLATION = "installation"
    ORGANIZATION = "organization"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be built; None leaves as it is. `splitter` of the chunking None too: it says nothing where not given."""

    embedding_model: str | None = None
    dimension: int | None = None
    size_tokens: int | None = None
    overlap_tokens: int | None = None
    splitter: str | None = None
    extent: Extent | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """A rebuild as its admin sees it; `error` is what holds it up, or has stopped it."""

    id: str
    extent: Extent
    state: str
    embedding_model: str
    dimension: int
    chunking: ChunkingSettings
    documents_done: int
    documents_total: int
    error: dict[str, Any] | None
    created_at: datetime
    switched_at: datetime | None
    ended_at: datetime | None

    @property
    def share(self) -> float:
        return round(self.documents_done / self.documents_total, 4) if self.documents_total else 1.0


async def start(runtime: Runtime, principal: Principal, wanted: Wanted) -> Progress:
    """Begin to build the index anew beside the one that is served, or go on with the same wish where it stopped.

    Without an extent a superadmin means the installation, everybody else the organization, whose documents are chunked
    anew one by one. Raises AdminsOnly, SuperadminRequired, InvalidRebuild, RebuildUnderWay, and what asking a model raises.
    """
    access.require_admin(principal)
    extent = wanted.extent
    if extent is None:
        extent = Extent.INSTALLATION if principal.role is Role.SUPERADMIN else Extent.ORGANIZATION
        if wanted.embedding_model is not None:
            extent = Extent.INSTALLATION
    if extent is Extent.ORGANIZATION:
        return await _start_of_organization(runtime, principal, wanted)
    auth.require_superadmin(principal)
    if wanted.splitter is not None:
        raise InvalidRebuild(
            "Where chunks end is a setting of collections: give the scope 'organization' with it."
        )
    values = await _target(runtime, wanted)
    _check_sizes(runtime, wanted)
    return await _begin(
        runtime,
        principal,
        {
            **values,
            "chunk_size_tokens": wanted.size_tokens or runtime.live.served.build.chunk_size_tokens,
            "chunk_overlap_tokens": wanted.overlap_tokens
            if wanted.overlap_tokens is not None
            else runtime.live.served.build.chunk_overlap_tokens,
        },
    )


async def _start_of_organization(runtime: Runtime, principal: Principal, wanted: Wanted) -> Progress:
    if wanted.embedding_model is not None or wanted.dimension is not None:
        raise InvalidRebuild(
            "One embedding model serves the whole installation: its scope is 'installation'."
        )
    _check_sizes(runtime, wanted)
    build = runtime.live.served.build
    return await _begin(
        runtime,
        principal,
        {
            "organization_id": principal.organization,
            "embedding_model": build.fingerprint,
            "dimension": build.dimension,
            "chunk_size_tokens": wanted.size_tokens,
            "chunk_overlap_tokens": wanted.overlap_tokens,
            "splitter": wanted.splitter,
        },
    )


def _check_sizes(runtime: Runtime, wanted: Wanted) -> None:
    size = wanted.size_tokens or runtime.chunk_size_tokens
    if wanted.overlap_tokens is not None and wanted.overlap_tokens > size // 2:
        raise InvalidRebuild(f"Chunks of {size} tokens can overlap by at most {size // 2}.")


async def _target(runtime: Runtime, wanted: Wanted) -> dict[str, Any]:
    """The model that is wanted, with the dimension that one embedding has."""
    served = runtime.live.served.build
    name, dimension = wanted.embedding_model or served.model, wanted.dimension
    if wanted.embedding_model is None and dimension is None:
        dimension = served.requested_dimension
    model = await embeddings.loaded(runtime, name, dimension)
    if model.dimension > _LONGEST_VECTOR:
        raise InvalidRebuild(
            f"{name} has {model.dimension:,} dimensions, and at most {_LONGEST_VECTOR:,} can be searched."
            " Give a smaller `dimension`, if the model can shorten its vectors."
        )
    return {
        "embedding_model": model.fingerprint,
        "dimension": model.dimension,
        "requested_dimension": dimension,
    }


async def _begin(runtime: Runtime, principal: Principal, values: dict[str, Any]) -> Progress:
    async with runtime.database.unit_of_work(SYSTEM) as session:
        repository = RebuildRepository(session)
        known = await repository.under_way(values.get("organization_id"))
        if known is None:
            rebuild = await repository.add(
                {"id": ids.new(ids.Prefix.REBUILD), "started_by": principal.id, **values}
            )
        elif known.state in _STARTS and all(getattr(known, name) == value for name, value in values.items()):
            rebuild = known
            if known.state == RebuildState.FAILED:
                await repository.change(known.id, [RebuildState.FAILED], {"state": RebuildState.RUNNING})
                await session.refresh(known)
        else:
            rebuild = None
        if rebuild is None:
            raise RebuildUnderWay
        await _record(session, principal, Action.INDEX_REBUILD_STARTED, rebuild)
        return await _progress(repository, rebuild)


async def newest(runtime: Runtime, principal: Principal) -> Progress:
    """The newest rebuild of the organization, or (for superadmins) of the installation. Raises AdminsOnly and NoRebuild."""
    access.require_admin(principal)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        repository = RebuildRepository(session)
        found = await repository.newest(_within(principal))
        if found is None:
            raise NoRebuild
        return await _progress(repository, found)


async def cancel(runtime: Runtime, principal: Principal) -> Progress:
    """Stop the rebuild that is under way; what is served stays. Raises AdminsOnly, NoRebuild and RebuildNotRunning."""
    access.require_admin(principal)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        repository = RebuildRepository(session)
        both = [await repository.under_way(organization_id) for organization_id in _within(principal)]
        if not any(both):
            raise NoRebuild
        for found in both:
            if found is not None and await repository.change(
                found.id, _STARTS, {"state": RebuildState.CANCELLING}
            ):
                await session.refresh(found)
                await _record(session, principal, Action.INDEX_REBUILD_CANCELLED, found)
                return await _progress(repository, found)
    raise RebuildNotRunning


def _within(principal: Principal) -> list[str | None]:
    """Whose rebuilds the caller sees: None is the installation."""
    if principal.role is Role.SUPERADMIN:
        return [None, principal.organization]
    return [principal.organization]


async def _record(session: Transaction, principal: Principal, action: Action, rebuild: IndexRebuild) -> None:
    await audit.record(
        session,
        action,
        organization_id=principal.organization,
        object_type="index",
        object_id=rebuild.id,
        after={
            "scope": Extent.INSTALLATION if rebuild.organization_id is None else Extent.ORGANIZATION,
            "embedding_model": rebuild.embedding_model,
            "chunk_size_tokens": rebuild.chunk_size_tokens,
            "chunk_overlap_tokens": rebuild.chunk_overlap_tokens,
        },
    )


async def _progress(repository: RebuildRepository, rebuild: IndexRebuild) -> Progress:
    total = rebuild.documents_total
    if rebuild.state in (RebuildState.SWITCHED, RebuildState.COMPLETED):
        done = total
    elif rebuild.organization_id is None:
        done = await repository.done(rebuild.number)
    else:
        done = max(0, total - await repository.left(rebuild))
    return Progress(
        id=rebuild.id,
        extent=Extent.INSTALLATION if rebuild.organization_id is None else Extent.ORGANIZATION,
        state=rebuild.state,
        embedding_model=rebuild.embedding_model,
        dimension=rebuild.dimension,
        chunking=ChunkingSettings(rebuild.chunk_size_tokens, rebuild.chunk_overlap_tokens),
        documents_done=done,
        documents_total=max(total, done),  # documents come while it is under way
        error=rebuild.error,
        created_at=rebuild.created_at,
        switched_at=rebuild.switched_at,
        ended_at=rebuild.ended_at,
    )
