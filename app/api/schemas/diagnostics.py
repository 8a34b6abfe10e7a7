"""What was looked at, and what came of it: as `ibid doctor --json` tells it."""

from typing import Literal

from pydantic import Field

from app.api.schemas.base import ResponseModel


class CheckResponse(ResponseModel):
    name: str = Field(examples=["vector index"])
    status: Literal["ok", "warn", "fail"]
    message: str
    next_step: str | None = Field(description="What to do about it; null where there is nothing to do.")


class DiagnosticsResponse(ResponseModel):
    ok: bool = Field(description="Whether no check failed; warnings count as well.")
    checks: list[CheckResponse]
