"""Looking after the index, for admins."""

from fastapi import APIRouter

from app.api.deps import ManagePrincipal, RuntimeDep
from app.api.schemas.index_care import IndexHealthResponse, IndexProblem, IndexRepairResponse, QueueState
from app.api.schemas.rebuilds import RebuildRequest, RebuildResponse
from app.services import index_care, rebuilds
from app.services.rebuilds import Progress, Wanted

router = APIRouter(prefix="/admin/index", tags=["operations"])


@router.get("/health")
async def index_health(runtime: RuntimeDep, principal: ManagePrincipal) -> IndexHealthResponse:
    """What is wrong with the organization's part of the index, and what waits to be processed."""
    health = await index_care.check(runtime, principal)
    return IndexHealthResponse(
        status="ok" if health.is_well else "degraded",
        embedding_model=health.embedding_model,
        problems=[
            IndexProblem(name=name, count=count, message=index_care.MESSAGES[name])
            for name, count in health.problems.items()
            if count
        ],
        queue=QueueState.model_validate(health.backlog),
    )


@router.post("/repair", status_code=202)
async def repair_index(runtime: RuntimeDep, principal: ManagePrincipal) -> IndexRepairResponse:
    """Mend what can be mended. What is served stays until its new version is complete."""
    return IndexRepairResponse.model_validate(await index_care.repair(runtime, principal))


@router.post("/rebuild", status_code=202)
async def rebuild_index(
    runtime: RuntimeDep, principal: ManagePrincipal, body: RebuildRequest | None = None
) -> RebuildResponse:
    """Build the index anew beside the one that is served: with another embedding model, or other chunks.

    Everything goes on meanwhile, and then all change over at once. Only one rebuild is under way at a time; the same request
    again is the same rebuild, and goes on with one that has failed.
    """
    body = body or RebuildRequest.model_validate({})
    wanted = Wanted(
        embedding_model=body.embedding_model,
        dimension=body.dimension,
        size_tokens=body.chunking.size_tokens,
        overlap_tokens=body.chunking.overlap_tokens,
        splitter=body.chunking.splitter,
        extent=body.scope,
    )
    return _response(await rebuilds.start(runtime, principal, wanted))


@router.get("/rebuild")
async def rebuild_progress(runtime: RuntimeDep, principal: ManagePrincipal) -> RebuildResponse:
    """How far the newest rebuild is."""
    return _response(await rebuilds.newest(runtime, principal))


@router.delete("/rebuild")
async def cancel_rebuild(runtime: RuntimeDep, principal: ManagePrincipal) -> RebuildResponse:
    """Stop the rebuild that is under way; what is served stays. Once it has switched there is nothing to cancel."""
    return _response(await rebuilds.cancel(runtime, principal))


def _response(progress: Progress) -> RebuildResponse:
    return RebuildResponse(
        id=progress.id,
        scope=progress.extent,
        state=progress.state,
        embedding_model=progress.embedding_model,
        dimension=progress.dimension,
        size_tokens=progress.chunking.size_tokens,
        overlap_tokens=progress.chunking.overlap_tokens,
        documents_done=progress.documents_done,
        documents_total=progress.documents_total,
        progress=progress.share,
        error=progress.error,
        created_at=progress.created_at,
        switched_at=progress.switched_at,
        ended_at=progress.ended_at,
    )
