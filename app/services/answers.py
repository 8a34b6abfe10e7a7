"""The values of a turn: the question, the answer with its sources, and the events in which it comes to be."""

from dataclasses import dataclass
from decimal import Decimal

from app.core.retrieval import EVERYTHING, SearchFilter
from app.rag.llms import Turn


@dataclass(frozen=True, slots=True)
class Question:
    """What a caller asks. `session_id` None starts a new session; `bot_id` None goes on with the session's bot.

    `top_k` and `temperature` None are the bot's.
    """

    message: str
    session_id: str | None = None
    bot_id: str | None = None
    history: tuple[Turn, ...] | None = None
    where: SearchFilter = EVERYTHING
    top_k: int | None = None
    temperature: float | None = None
    stream: bool = False


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
    heading: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them, and what they cost; None where it did not say or no price is known."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: Decimal | None = None


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


@dataclass(frozen=True, slots=True)
class TurnStarted:
    session_id: str
    message_id: str


@dataclass(frozen=True, slots=True)
class SourcesFound:
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    delta: str


@dataclass(frozen=True, slots=True)
class AnswerDone:
    answer: Answer


ChatEvent = TurnStarted | SourcesFound | AnswerDelta | AnswerDone
