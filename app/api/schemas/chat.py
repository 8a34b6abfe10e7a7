"""Questions, answers, and the events of a stream."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from app.api.schemas.base import ErrorDetail, OpaqueId, RequestModel, ResponseModel
from app.api.schemas.documents import DocumentEvent, Share
from app.api.schemas.filters import Filters
from app.api.schemas.search import CollectionIds, TopK

MessageText = Annotated[str, Field(min_length=1, max_length=8000)]


class ChatMessage(RequestModel):
    role: Literal["user", "assistant"]
    content: MessageText


class ChatConfig(RequestModel):
    top_k: TopK | None = Field(None, description="Sources for the answer. Default: the bot's.")
    temperature: float | None = Field(None, ge=0, le=2)


class AnswerOptions(RequestModel):
    """How a question is to be answered."""

    bot_id: OpaqueId | None = Field(
        None,
        description="Who answers: a bot's id, or `default` for the one of the service's settings."
        " Default: who answered last in this session.",
    )
    collection_ids: CollectionIds | None = None
    filters: Filters | None = None
    config: ChatConfig = Field(default_factory=ChatConfig)
    stream: bool = False


class RegenerateRequest(AnswerOptions):
    pass


class EditRequest(AnswerOptions):
    message: MessageText

    @model_validator(mode="after")
    def _is_a_question(self) -> Self:
        if not self.message.strip():
            raise ValueError("the message is blank")
        return self


class ChatRequest(AnswerOptions):
    session_id: OpaqueId | None = Field(
        None, description="Made when unknown; leave it out for a new session.", examples=["sess_abc123"]
    )
    message: MessageText | None = Field(None, examples=["Apa itu EMS Eternalgy?"])
    messages: list[ChatMessage] | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Instead of `message`: the conversation so far, the question last. Nothing earlier is read.",
    )

    @model_validator(mode="after")
    def _has_one_question(self) -> Self:
        if (self.message is None) == (self.messages is None):
            raise ValueError("give either message or messages")
        if self.messages is not None and self.messages[-1].role != "user":
            raise ValueError("the last of messages must be the user's")
        if not self.question.strip():
            raise ValueError("the message is blank")
        return self

    @property
    def question(self) -> str:
        if self.message is not None:
            return self.message
        assert self.messages is not None
        return self.messages[-1].content


class Source(ResponseModel):
    """A passage that was given for the answer; `cited` when the answer points at it as `[n]`."""

    n: int
    document_id: str
    title: str
    source: str | None
    chunk_id: str
    page: int
    start: int
    end: int
    snippet: str
    score: float
    cited: bool
    supported: bool | None = Field(
        None,
        description="Whether it says all that it is cited for: numbers and names exactly, the words nearly."
        " Null when it is not cited, or that can't be told.",
    )
    heading: str | None = Field(None, description="The headings that it stands under, the highest first.")
    boxes: list[tuple[float, float, float, float]] | None = Field(
        None,
        description="Where it stands on its page (PDF): left, top, right and bottom of each line, as shares of the page's width and"
        " height from the top left, so that they fit `GET /documents/{id}/pages/{n}.webp` in any width. Null where the"
        " format does not say.",
        examples=[[[0.12, 0.305, 0.88, 0.322]]],
    )


class Usage(ResponseModel):
    """Of all model calls for the answer; null where none was made, or where no price is known."""

    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: str | None = Field(examples=["0.00048"])
    estimated: bool = Field(False, description="Whether some of it is not the provider's own count.")


class PendingDocument(ResponseModel):
    document_id: str
    title: str
    status: Literal["uploaded", "processing"]
    progress: Share


PENDING: Final = "Files of the session that were still being read, so that the answer could not use them."


class ChatResponse(ResponseModel):
    session_id: str
    message_id: str
    answer: str
    sources: list[Source]
    refused: bool = Field(description="The documents hold no answer; no model was asked or it found none.")
    usage: Usage
    model: str = Field(description="Who answered; `extractive` are the documents' own sentences.")
    finish_reason: str = Field(description="`stop`, `length`, … of the model; `stopped` by the client.")
    fallback: bool = Field(description="Whether another one answered than the bot's model.")
    fallback_reason: str | None = Field(description="The code of the error that kept that one from it.")
    degraded: str | None = Field(
        None,
        description="Set where the embedding provider failed, so that the documents were searched by words alone: the code of its"
        " error.",
    )
    pending_documents: list[PendingDocument] = Field(description=PENDING)


class BranchResponse(ResponseModel):
    session_id: str


class SessionEvent(ResponseModel):
    type: Literal["session"] = "session"
    session_id: str
    message_id: str


class DocumentProgressEvent(ResponseModel):
    """How far a file of the session is. It has the id of the event before it."""

    type: Literal["document_progress"] = "document_progress"
    document: DocumentEvent


class SourcesEvent(ResponseModel):
    type: Literal["sources"] = "sources"
    sources: list[Source]


class DeltaEvent(ResponseModel):
    type: Literal["delta"] = "delta"
    delta: str


class DoneEvent(ChatResponse):
    type: Literal["done"] = "done"
    done: Literal[True] = True


class ErrorEvent(ResponseModel):
    type: Literal["error"] = "error"
    error: ErrorDetail


StreamEvent = Annotated[
    SessionEvent | DocumentProgressEvent | SourcesEvent | DeltaEvent | DoneEvent | ErrorEvent,
    Field(discriminator="type"),
]


class Feedback(ResponseModel):
    """What the owner of the session thinks of an answer."""

    rating: Literal["up", "down"]
    comment: str | None
    created_at: datetime


class MessageResponse(ResponseModel):
    """One message of a session. `status` of an answer: streaming, complete, stopped, interrupted or failed.

    `sibling_ids` are the messages that stand in each other's place, itself among them, oldest first: the questions as
    they were edited, the answers as they were regenerated. `active` is the branch that the conversation goes on with.
    """

    id: str
    role: Literal["user", "assistant", "system"]
    content: str
    status: Literal["streaming", "complete", "stopped", "interrupted", "failed"]
    sources: list[Source]
    usage: dict[str, Any] | None
    model: str | None
    bot_version_id: str | None = Field(
        description="The version of the bot that gave this answer; null is the bot of the service's settings."
    )
    refused: bool
    finish_reason: str | None
    fallback_reason: str | None = Field(
        validation_alias="fallback",
        description="Why another one answered than the bot's model: the code of its error.",
    )
    degraded: str | None = Field(
        description="Why the documents were searched by words alone: the code of the embedding provider's error."
    )
    pending_documents: list[PendingDocument] = Field(description=PENDING)
    feedback: Feedback | None
    guardrails: dict[str, Any] | None = Field(
        description="What the guardrails did for this answer: kinds and counts, never what was found.",
        examples=[{"masked": {"email": 2}, "removed": {"image": 1}, "refused": "no_answer"}],
    )
    created_at: datetime
    active: bool
    sibling_ids: list[str] = Field(default_factory=list)

    @classmethod
    def of(cls, message: Any, sibling_ids: Sequence[str]) -> Self:
        return cls.model_validate(message).model_copy(update={"sibling_ids": list(sibling_ids)})
