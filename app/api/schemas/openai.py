"""OpenAI's requests and answers, as far as they are understood here: a bot is a model."""

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from app.api.schemas.base import CleanText, RequestModel, ResponseModel
from app.api.schemas.chat import Source

_MOST_MESSAGES: Final = 200
_MOST_PARTS: Final = 64
_QUESTION_CHARACTERS: Final = 8_000
_MESSAGE_CHARACTERS: Final = 100_000

IGNORED: Final = (
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "parallel_tool_calls",
    "response_format",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "top_p",
    "seed",
    "modalities",
    "audio",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "store",
    "metadata",
    "verbosity",
    "web_search_options",
)
"""Known to OpenAI and not followed here: a request may name them, and its answer says that they were ignored."""


class ContentPart(RequestModel):
    """A part of a message. Only text is read; whatever else there is makes the request one that can't be answered."""

    type: str = Field(max_length=40)
    text: CleanText | None = Field(None, max_length=_MESSAGE_CHARACTERS)
    refusal: CleanText | None = Field(None, max_length=_MESSAGE_CHARACTERS)
    image_url: Any = None
    input_audio: Any = None
    file: Any = None

    @model_validator(mode="after")
    def _is_text(self) -> Self:
        if self.type not in ("text", "refusal"):
            raise ValueError(f"parts of type {self.type[:40]!r} can't be read here; send text")
        if self.text is None and self.refusal is None:
            raise ValueError("a part of type 'text' needs its text")
        return self


class CompletionMessage(RequestModel):
    """Answers with calls of tools, and what tools said, are passed over: no tools are called here."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: (
        Annotated[
            Annotated[CleanText, Field(max_length=_MESSAGE_CHARACTERS), Tag("text")]
            | Annotated[list[ContentPart], Field(max_length=_MOST_PARTS), Tag("parts")],
            Discriminator(lambda value: "parts" if isinstance(value, list) else "text"),
        ]
        | None
    ) = None
    name: str | None = Field(None, max_length=200)
    refusal: Any = None
    audio: Any = None
    annotations: Any = None
    tool_calls: Any = None
    tool_call_id: Any = None
    function_call: Any = None

    @property
    def text(self) -> str:
        if self.content is None:
            return ""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text or part.refusal or "" for part in self.content)


class StreamOptions(RequestModel):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class CompletionRequest(RequestModel):
    model: CleanText = Field(
        min_length=1, max_length=200, examples=["ibid"], description="`ibid`, or a bot's id or name."
    )
    messages: list[CompletionMessage] = Field(min_length=1, max_length=_MOST_MESSAGES)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    stop: (
        Annotated[CleanText, Field(min_length=1, max_length=500)]
        | Annotated[
            list[Annotated[CleanText, Field(min_length=1, max_length=500)]], Field(min_length=1, max_length=4)
        ]
        | None
    ) = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    user: str | None = Field(None, max_length=512, description="Taken, and not kept.")

    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    parallel_tool_calls: Any = None
    response_format: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    logit_bias: Any = None
    top_p: Any = None
    seed: Any = None
    modalities: Any = None
    audio: Any = None
    prediction: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    reasoning_effort: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    store: Any = None
    metadata: Any = None
    verbosity: Any = None
    web_search_options: Any = None

    @field_validator("n")
    @classmethod
    def _is_one(cls, value: int | None) -> int | None:
        if value not in (None, 1):
            raise ValueError("one answer is given to a question; n must be 1")
        return value

    @field_validator("logprobs", "top_logprobs")
    @classmethod
    def _is_off(cls, value: int | None) -> int | None:
        if value:
            raise ValueError("logprobs are not given here")
        return value

    @model_validator(mode="after")
    def _has_a_question(self) -> Self:
        last = self.conversation[-1] if self.conversation else None
        if last is None or last.role != "user" or not last.text.strip():
            raise ValueError("the last message must be the user's, with a text")
        if len(last.text) > _QUESTION_CHARACTERS:
            raise ValueError(f"a question has at most {_QUESTION_CHARACTERS} characters")
        return self

    @property
    def conversation(self) -> list[CompletionMessage]:
        """What user and assistant have said, without calls of tools and their results."""
        return [m for m in self.messages if m.role == "user" or (m.role == "assistant" and m.text.strip())]

    @property
    def preferences(self) -> str | None:
        """What the caller's program asks of every answer."""
        texts = [m.text.strip() for m in self.messages if m.role in ("system", "developer")]
        return "\n\n".join(filter(None, texts)) or None

    @property
    def stops(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def ignored(self) -> list[str]:
        """The names of what was asked for and is not followed."""
        given: list[str] = [
            name for name in IGNORED if name in self.model_fields_set and getattr(self, name) is not None
        ]
        if any(message.role in ("tool", "function") for message in self.messages):
            given.append("messages with role tool")
        return given


class UrlCitation(ResponseModel):
    """Where the passage stands: `start` and `end` are code points into the text of the page."""

    start_index: int = Field(description="Of the marker in the answer.")
    end_index: int
    title: str
    url: str
    document_id: str
    chunk_id: str
    page: int
    start: int
    end: int
    snippet: str


class Annotation(ResponseModel):
    type: Literal["url_citation"] = "url_citation"
    url_citation: UrlCitation


class AnswerMessage(ResponseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: str | None = None
    annotations: list[Annotation]


class Choice(ResponseModel):
    index: int = 0
    message: AnswerMessage
    logprobs: None = None
    finish_reason: str = Field(examples=["stop", "length"])


class CompletionUsage(ResponseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_usd: str | None = None
    estimated: bool = False


class Completion(ResponseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage
    citations: list[str] = Field(description="The address of source n stands at place n - 1.")
    sources: list[Source]
    refused: bool
    fallback_reason: str | None = Field(
        description="Why another one answered than the bot's model: the code of its error."
    )
    degraded: str | None = Field(
        description="Why the documents were searched by words alone: the code of the embedding provider's error."
    )
    warnings: list[str]


class Model(ResponseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    name: str


class ModelList(ResponseModel):
    object: Literal["list"] = "list"
    data: list[Model]


MARKER: Final = re.compile(r"\[(\d{1,3})\]")
