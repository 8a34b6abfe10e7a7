"""The state of the index."""

from typing import Literal

from pydantic import Field

from app.api.schemas.base import ResponseModel


class IndexProblem(ResponseModel):
    name: str = Field(examples=["stuck_documents"])
    count: int
    message: str


class QueueState(ResponseModel):
    """Documents that wait and that are being processed."""

    ready: int
    running: int
    postponed: int = Field(description="To be tried again later.")
    oldest_ready_seconds: float


class IndexHealthResponse(ResponseModel):
    status: Literal["ok", "degraded"]
    embedding_model: str
    problems: list[IndexProblem] = Field(description="Those that there are; empty when all is well.")
    queue: QueueState


class IndexRepairResponse(ResponseModel):
    documents_started: int = Field(description="Documents that are processed anew now.")
    remaining: int = Field(description="1 when there are more than one call takes; call again then.")
    files_removed: int
