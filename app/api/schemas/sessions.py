"""Sessions, as their owner sees them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from app.api.schemas.base import (
    CleanText,
    NameText,
    OpaqueId,
    PartialModel,
    RequestModel,
    ResponseModel,
)
from app.api.schemas.documents import Title, UploadResponse


class MatchResponse(ResponseModel):
    """Where a search found its words: in this message, or (null) in the title."""

    message_id: str | None
    text: str = Field(description="Some of the text around it.")


class SessionResponse(ResponseModel):
    id: str
    title: str
    pinned: bool
    collection_id: str | None = Field(description="The collection of the session's own files, if it has any.")
    bot_id: str | None = Field(description="Who answers in it; null is the bot of the service's settings.")
    created_at: datetime
    updated_at: datetime = Field(description="When it was last asked something.")


class ListedSessionResponse(SessionResponse):
    match: MatchResponse | None = Field(None, description="Only in answer to `q`.")


class SessionDetailsResponse(SessionResponse):
    messages: int = Field(description="How many there are.")


class ChangeSessionRequest(PartialModel):
    title: Annotated[NameText, Field(max_length=200)] | None = None
    pinned: bool | None = Field(None, description="Pinned sessions come first in the list.")


class SessionUploadFields(RequestModel):
    """What may stand in the form beside the files."""

    session_id: OpaqueId | None = Field(
        None, description="Made when unknown; leave it out for a new session."
    )
    title: Title | None = Field(None, description="Of one file; default: its name.")


class SessionUploadResponse(ResponseModel):
    """The session, the collection of its files, and what became of each."""

    session_id: str
    collection_id: str
    documents: list[UploadResponse]


class FeedbackRequest(RequestModel):
    rating: Literal["up", "down"]
    comment: Annotated[CleanText, Field(max_length=2000)] | None = None
