"""Looking after the index, for admins."""

from fastapi import APIRouter

from app.api.deps import ManagePrincipal, RuntimeDep
from app.api.schemas.index_care import IndexHealthResponse, IndexProblem, IndexRepairResponse, QueueState
from app.services import index_care

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
