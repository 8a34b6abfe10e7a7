"""The messages of a WebSocket connection: JSON objects with a `type`."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from app.api.schemas.base import ErrorDetail, OpaqueId, RequestModel, ResponseModel
from app.api.schemas.chat import AnswerOptions, ChatResponse, MessageText, Source
from app.api.schemas.documents import DocumentEvent

Ref = Annotated[
    str | None,
    Field(max_length=64, description="The client's own name for it; what answers it says the same."),
]


class Authenticate(RequestModel):
    """First of all where the address and the subprotocol say nothing; and again, when an access token is renewed."""

    type: Literal["authenticate"]
    token: str = Field(min_length=1, max_length=4000)
    organization_id: OpaqueId | None = None


class UserMessage(AnswerOptions):
    type: Literal["user_message"]
    message: MessageText
    session_id: OpaqueId | None = None
    edit_of: OpaqueId | None = Field(None, description="The question that this one stands in the place of.")
    ref: Ref = None

    @model_validator(mode="after")
    def _is_a_question(self) -> Self:
        if not self.message.strip():
            raise ValueError("the message is blank")
        if self.edit_of is not None and self.session_id is not None:
            raise ValueError("give either session_id or edit_of")
        return self


class Regenerate(AnswerOptions):
    type: Literal["regenerate"]
    message_id: OpaqueId
    ref: Ref = None


class Stop(RequestModel):
    type: Literal["stop"]
    message_id: OpaqueId
    ref: Ref = None


class Resume(RequestModel):
    type: Literal["resume"]
    message_id: OpaqueId
    after: int = Field(0, ge=0, le=999_999_999, description="The number of the last message that arrived.")
    ref: Ref = None


class FollowDocument(RequestModel):
    type: Literal["follow_document"]
    document_id: OpaqueId
    ref: Ref = None


class Ping(RequestModel):
    type: Literal["ping"]
    ref: Ref = None


ClientMessage = Authenticate | UserMessage | Regenerate | Stop | Resume | FollowDocument | Ping
CLIENT_MESSAGE: TypeAdapter[ClientMessage] = TypeAdapter(
    Annotated[ClientMessage, Field(discriminator="type")]
)


class ServerMessage(ResponseModel):
    ref: str | None = None


class Authenticated(ServerMessage):
    type: Literal["authenticated"] = "authenticated"
    organization_id: str


class StreamStart(ServerMessage):
    type: Literal["stream_start"] = "stream_start"
    number: int
    session_id: str
    message_id: str


class Sources(ServerMessage):
    type: Literal["sources"] = "sources"
    number: int
    message_id: str
    sources: list[Source]


class StreamChunk(ServerMessage):
    type: Literal["stream_chunk"] = "stream_chunk"
    number: int
    message_id: str
    delta: str


class StreamEnd(ChatResponse):
    type: Literal["stream_end"] = "stream_end"
    number: int
    ref: str | None = None


class MessageSaved(ServerMessage):
    type: Literal["message_saved"] = "message_saved"
    session_id: str
    message_id: str
    status: Literal["complete", "stopped"]


class SocketError(ServerMessage):
    """With `message_id` it is the end of that answer."""

    type: Literal["error"] = "error"
    number: int | None = None
    message_id: str | None = None
    error: ErrorDetail


class DocumentProgress(ServerMessage):
    type: Literal["document_progress"] = "document_progress"
    document: DocumentEvent


class Pong(ServerMessage):
    type: Literal["pong"] = "pong"


class TicketResponse(ResponseModel):
    ticket: str = Field(description="For one connection to `/chat/ws?ticket=…`.")
    expires_in: int = Field(description="Seconds.")


def as_text(message: Any) -> str:
    text: str = message.model_dump_json(exclude_none=isinstance(message, ServerMessage))
    return text
