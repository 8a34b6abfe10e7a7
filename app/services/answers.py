"""The values of a turn: the question, the answer with its sources, and the events in which it comes to be."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from app.core.boxes import Box
from app.core.errors import AppError
from app.core.retrieval import EVERYTHING, SearchFilter
from app.rag.llms import Turn

UNEXPECTED: Final = "Something went wrong on the server; it has been logged."


@dataclass(frozen=True, slots=True)
class Question:
    """What a caller asks. `session_id` None starts a new session; `bot_id` None goes on with the session's bot.

    `top_k` and `temperature` None are the bot's.

    `regenerates` names an answer that is to be given again (`message` is then its question's), `edits` a question that
    is to be asked otherwise: both begin a branch of the session beside what was there.
    """

    message: str
    session_id: str | None = None
    bot_id: str | None = None
    history: tuple[Turn, ...] | None = None
    where: SearchFilter = EVERYTHING
    top_k: int | None = None
    temperature: float | None = None
    stream: bool = False
    max_tokens: int | None = None
    """Of the answer, where that is less than the bot gives."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of them; for callers without a stored conversation."""
    preferences: str | None = None
    """What the caller's program asks of every answer, beneath the bot's own instructions."""
    regenerates: str | None = None
    edits: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A passage given to the model; `start` and `end` are code points into the text of its page, `chunk_id` its best chunk."""

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
    cited: bool = False
    supported: bool | None = None
    """Whether it says all that it is cited for; None where it is not cited, or that can't be told."""
    heading: str | None = None
    boxes: tuple[Box, ...] | None = None
    """Where it stands on its page, as shares of width and height; None where the format does not say."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of all model calls of an answer and what they cost; None where none was made or no price is known.

    They are the provider's own counts; `estimated` says that some are not.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: Decimal | None = None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class DocumentProgress:
    """How far a file of the session is, while it is being read and once it has been; `progress` is 0 to 1."""

    document_id: str
    title: str
    status: str
    stage: str | None
    progress: float
    chunks: int
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Answer:
    session_id: str
    message_id: str
    answer: str
    sources: tuple[Source, ...]
    refused: bool
    usage: Usage
    model: str
    finish_reason: str
    fallback: str | None = None
    """Why another model (or the extractive mode) answered than the bot's own: the code of that one's failure."""
    degraded: str | None = None
    """Why its passages were found by words alone: the code of the failure of the embedding provider."""
    pending_documents: tuple[DocumentProgress, ...] = ()
    """Files of the session that it could not use, since they were still being read."""


@dataclass(frozen=True, slots=True)
class TurnStarted:
    session_id: str
    message_id: str


@dataclass(frozen=True, slots=True)
class SourcesFound:
    """The passages for an answer that is yet to come: none of them is cited so far."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    delta: str


@dataclass(frozen=True, slots=True)
class AnswerDone:
    answer: Answer


@dataclass(frozen=True, slots=True)
class TurnFailed:
    """The other end of a turn, as it is told to whoever follows it."""

    code: str
    message: str
    details: dict[str, Any]

    @classmethod
    def of(cls, error: Exception) -> "TurnFailed":
        if isinstance(error, AppError):
            return cls(error.code, error.message, error.details)
        return cls("internal_error", UNEXPECTED, details={})


ChatEvent = TurnStarted | DocumentProgress | SourcesFound | AnswerDelta | AnswerDone
