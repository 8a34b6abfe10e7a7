"""Is it alive, is it ready."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from app import __version__
from app.api.deps import RuntimeDep
from app.services import health
from app.services.health import PartStatus

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"
    version: str


class Part(BaseModel):
    name: str
    status: PartStatus
    message: str | None


class Readiness(BaseModel):
    status: Literal["ok", "degraded", "unavailable"]
    version: str
    parts: list[Part]


@router.get("/health")
async def alive() -> Health:
    """The process answers. Touches nothing else."""
    return Health(version=__version__)


@router.get("/health/ready", responses={503: {"model": Readiness}})
async def ready(runtime: RuntimeDep, response: Response) -> Readiness:
    """Database, migrations, queue, index and storage: which of them is down (503), or works with a reservation (200)."""
    parts = await health.check(runtime)
    statuses = {part.status for part in parts}
    status: Literal["ok", "degraded", "unavailable"] = "degraded" if PartStatus.DEGRADED in statuses else "ok"
    if PartStatus.DOWN in statuses:
        status, response.status_code = "unavailable", 503
    return Readiness(
        status=status,
        version=__version__,
        parts=[Part(name=part.name, status=part.status, message=part.message) for part in parts],
    )
