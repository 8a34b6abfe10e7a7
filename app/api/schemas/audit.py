"""The audit log."""

from datetime import datetime
from typing import Any

from pydantic import Field

from app.api.schemas.base import ResponseModel


class AuditEntryResponse(ResponseModel):
    id: str
    occurred_at: datetime
    organization_id: str | None = Field(description="null: of the service as a whole.")
    actor_kind: str = Field(examples=["user", "api_key", "operator", "system", "anonymous"])
    actor_id: str | None
    actor_name: str = Field(description="The user's e-mail address, or the key's name, at that time.")
    action: str = Field(examples=["user.role_changed"])
    object_type: str = Field(examples=["user"])
    object_id: str | None
    object_name: str | None
    address: str | None = Field(description="Where the request came from; an IPv6 address as its /64.")
    request_id: str | None = Field(description="As in the answer's `X-Request-ID` and in the logs.")
    before: dict[str, Any] | None = Field(description="The changed fields as they were.")
    after: dict[str, Any] | None = Field(description="The changed fields as they are since.")
