"""Is it alive, is it ready."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from app import __version__
from app.api.deps import RuntimeDep
from app.services import health

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"
    version: str


class Part(BaseModel):
    name: str
    status: Literal["ok", "down"]
    message: str | None


class Readiness(BaseModel):
    status: Literal["ok", "unavailable"]
    version: str
    parts: list[Part]


@router.get("/health")
async def alive() -> Health:
    """The process answers. Touches nothing else."""
    return Health(version=__version__)


@router.get("/health/ready", responses={503: {"model": Readiness}})
async def ready(runtime: RuntimeDep, response: Response) -> Readiness:
    """Database, migrations and index: all of them work, or 503 and which one does not."""
    parts = await health.check(runtime)
    failed = any(not part.ok for part in parts)
    if failed:
        response.status_code = 503
    return Readiness(
        status="unavailable" if failed else "ok",
        version=__version__,
        parts=[
            Part(name=part.name, status="ok" if part.ok else "down", message=part.message) for part in parts
        ],
    )
