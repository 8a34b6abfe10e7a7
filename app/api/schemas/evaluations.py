"""Evaluations and the question sets that they are run on."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from app.api.schemas.base import CleanText, NameText, OpaqueId, RequestModel, ResponseModel

_Ids = Annotated[list[OpaqueId], Field(max_length=100)]
_Answer = Annotated[NameText, Field(max_length=2000)]


class EvaluationQuestion(RequestModel):
    """A question with what is right: the documents or chunks that answer it, or answers; `answerable` false without."""

    question: Annotated[NameText, Field(min_length=1, max_length=2000)]
    document_ids: _Ids = Field(default_factory=list)
    chunk_ids: _Ids = Field(default_factory=list)
    answers: list[_Answer] = Field(
        default_factory=list,
        max_length=20,
        description="Any of them is right: it is looked for in answers and in what they cite, and without ids in chunks.",
    )
    answerable: bool = True

    @model_validator(mode="after")
    def _expects_something(self) -> Self:
        if bool(self.document_ids or self.chunk_ids or self.answers) != self.answerable:
            raise ValueError(
                "an answerable question needs document_ids, chunk_ids or answers; others have `answerable` false and none"
            )
        return self

    def stored(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


class EvaluationRequest(RequestModel):
    set_id: OpaqueId | None = Field(None, description="A question set that was sent before.")
    name: Annotated[NameText, Field(max_length=200)] | None = Field(
        None, description="Of a new set, or of the same questions once more."
    )
    questions: list[EvaluationQuestion] | None = Field(None, min_length=1, max_length=2000)
    bot_id: OpaqueId | None = Field(
        None, description="Who searches and answers. Default: the bot of the settings."
    )
    answers: bool = Field(
        False, description="Whether each question is answered too, which costs what its bot's model costs."
    )
    baseline_id: OpaqueId | None = Field(
        None,
        description="The evaluation of this set to compare with. Default: the last one that was completed.",
    )

    @model_validator(mode="after")
    def _has_questions(self) -> Self:
        if self.set_id is not None and (self.name is not None or self.questions is not None):
            raise ValueError("give either set_id, or name and questions")
        if self.set_id is None and (self.name is None or self.questions is None):
            raise ValueError("give set_id, or name and questions")
        if self.questions is not None and not any(question.answerable for question in self.questions):
            raise ValueError("at least one question must be answerable")
        return self


class EvaluationError(ResponseModel):
    code: str
    message: str


class Difference(ResponseModel):
    difference: float
    p: float = Field(
        description="Of a paired randomization test: how likely chance alone makes such a difference."
    )


class Comparison(ResponseModel):
    """Against another evaluation of the same questions: nDCG@10 of each leg, and the answers where both have some."""

    baseline_id: str
    differences: dict[str, Difference]
    regression: bool = Field(description="Whether the fused search or the answers lost, with p below 0.05.")
    worse: list[str]


class LegSummary(ResponseModel):
    ndcg_10: float = Field(alias="ndcg@10")
    recall_10: float = Field(alias="recall@10")
    recall_100: float = Field(alias="recall@100")
    mrr_10: float = Field(alias="mrr@10")
    latency_p50_ms: float
    latency_p95_ms: float


class RefusalSummary(ResponseModel):
    min_relevance: float
    false_refusals: float
    recall: float | None
    precision: float | None
    unanswerable: int


class AnswersSummary(ResponseModel):
    """Null where there was nothing to measure it on; `faithfulness` needs a model."""

    answers: int
    contains_gold: float | None
    citation_precision: float | None
    citation_recall: float | None
    uncited: float | None
    refusal_precision: float | None
    refusal_recall: float | None
    false_refusals: float | None
    faithfulness: float | None
    seconds: float | None


class EvaluationSummary(ResponseModel):
    questions: int = Field(description="The answerable ones, on which the search is measured.")
    settings: dict[str, str]
    legs: dict[str, LegSummary]
    refusal: RefusalSummary
    answers: AnswersSummary | None
    comparison: Comparison | None


class EvaluationResponse(ResponseModel):
    id: str
    set_id: str
    name: str
    bot_id: str
    answers: bool = Field(validation_alias="with_answers")
    status: Literal["queued", "running", "completed", "failed"]
    progress: float
    error: EvaluationError | None
    summary: EvaluationSummary | None
    created_at: datetime
    ended_at: datetime | None


class EvaluationDetail(EvaluationResponse):
    per_question: dict[str, Any] | None = Field(
        description="For each leg the measures, and the relevances, in the order of the answerable questions; `answers` in"
        " that of all, the unanswerable last."
    )


class EvaluationSetResponse(ResponseModel):
    id: str
    name: CleanText
    question_count: int
    created_at: datetime
