"""Bots as they are shown: their versions, who may use them, and how they do. Never with a key."""

from datetime import date, datetime
from typing import Any

from pydantic import Field

from app.api.schemas.base import ResponseModel
from app.core.access import Visibility
from app.core.bots import Expansion, PiiPolicy, Provider, RerankerKind, Unsupported
from app.rag.trial import Outcome


class TryResponse(ResponseModel):
    ok: bool
    outcome: Outcome
    message: str = Field(description="What is wrong, for people.", examples=["gpt-4.1-mini answers."])
    model: str
    latency_ms: int | None


class TopicResponse(ResponseModel):
    description: str
    examples: list[str]


class RerankerResponse(ResponseModel):
    kind: RerankerKind
    model: str | None
    url: str | None
    has_api_key: bool
    api_key_end: str = Field(description="Its last four characters, of a key that is long enough.")
    candidates: int
    timeout_seconds: float


class RetrievalResponse(ResponseModel):
    top_k: int | None
    expansion: Expansion
    reranker: RerankerResponse
    context_tokens: int


class GuardrailResponse(ResponseModel):
    in_scope: list[TopicResponse]
    out_of_scope: list[TopicResponse]
    refusal_text: str | None
    minimum_relevance: float | None
    pii: PiiPolicy
    pii_kinds: list[str] | None
    unsupported_citations: Unsupported


class BotSettingsResponse(ResponseModel):
    provider: Provider
    model: str
    base_url: str | None
    has_api_key: bool
    api_key_end: str = Field(description="Its last four characters, of a key that is long enough.")
    temperature: float
    max_answer_tokens: int
    fallback_model: str | None
    extractive_fallback: bool
    persona: str
    language: str
    summarise_history: bool
    retrieval: RetrievalResponse
    guardrails: GuardrailResponse


class BotSummaryResponse(ResponseModel):
    """A bot as its users see it."""

    id: str = Field(examples=["bot_01jd3v7q2mzt5w0c9h6k8n4r3x"])
    name: str
    description: str


class BotResponse(BotSettingsResponse, BotSummaryResponse):
    """A bot as admins see it."""

    visibility: Visibility
    collection_ids: list[str] | None
    version: int = Field(description="The number of the version that answers.")
    version_id: str
    revision: int = Field(description="Goes up with every change; also the ETag.")
    created_by: str | None
    created_at: datetime
    updated_at: datetime


class DefaultBotResponse(BotSettingsResponse, BotSummaryResponse):
    """The bot of the service's settings, which every organization has: nobody changes it here, so it has no versions."""


class VersionSummaryResponse(ResponseModel):
    id: str
    number: int
    note: str
    created_by: str | None
    created_at: datetime


class VersionResponse(VersionSummaryResponse):
    settings: BotSettingsResponse


class DifferenceResponse(ResponseModel):
    field: str = Field(examples=["retrieval.top_k"])
    before: Any
    after: Any


class DiffResponse(ResponseModel):
    from_version: int
    to_version: int
    differences: list[DifferenceResponse]


class BotUserResponse(ResponseModel):
    user_id: str
    created_at: datetime


class CountsResponse(ResponseModel):
    """`prompt_tokens`, `completion_tokens` and `cost_usd` are of the turns whose provider said so."""

    turns: int
    refused: int
    failed: int = Field(description="Also those that were broken off.")
    thumbs_up: int
    thumbs_down: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: str = Field(examples=["0.0148"])
    latency_p50_ms: int | None
    latency_p95_ms: int | None


class DayResponse(CountsResponse):
    day: date


class VersionCountsResponse(CountsResponse):
    version: int


class StatisticsResponse(ResponseModel):
    since: date
    until: date
    total: CountsResponse
    days: list[DayResponse]
    versions: list[VersionCountsResponse]
