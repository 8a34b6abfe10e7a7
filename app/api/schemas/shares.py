"""Links to conversations, and what they show to strangers."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from app.api.schemas.base import Moment, RequestModel, ResponseModel


class CreateShareRequest(RequestModel):
    expires_at: Moment | None = Field(
        None, description="Until when the link opens; left out, until it is revoked."
    )


class ShareResponse(ResponseModel):
    """A link to a session as it was at `created_at`."""

    id: str = Field(examples=["shr_01jd3v7q2mzt5w0c9h6k8n4r3x"])
    title: str
    created_at: datetime
    expires_at: datetime | None


class CreatedShareResponse(ShareResponse):
    token: str = Field(description="For GET /shared/{token}. Shown only now.")
    url: str | None = Field(description="The same as a link, where the setting PUBLIC_URL is there.")


class SharedSource(ResponseModel):
    n: int
    title: str
    page: int
    snippet: str
    cited: bool


class SharedMessage(ResponseModel):
    role: Literal["user", "assistant"]
    content: str
    complete: bool = Field(description="Whether the answer came to its end.")
    refused: bool
    created_at: datetime
    sources: list[SharedSource]


class SharedResponse(ResponseModel):
    """A conversation as it was when it was shared."""

    title: str
    shared_at: datetime = Field(validation_alias="created_at")
    expires_at: datetime | None
    messages: list[SharedMessage]
