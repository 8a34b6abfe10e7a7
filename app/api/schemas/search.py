"""Retrieval alone."""

from typing import Annotated

from pydantic import Field

from app.api.schemas.base import OpaqueId, RequestModel, ResponseModel
from app.api.schemas.filters import Filters
from app.core.retrieval import Hit

CollectionIds = Annotated[list[OpaqueId], Field(min_length=1, max_length=100)]
TopK = Annotated[int, Field(ge=1, le=50)]


class SearchRequest(RequestModel):
    query: str = Field(min_length=1, max_length=8000)
    collection_ids: CollectionIds | None = None
    filters: Filters | None = None
    top_k: TopK | None = Field(None, description="Default: the setting TOP_K_DEFAULT.")
    passages: bool = Field(
        False,
        description="Whether results are passages as an answer is made from: neighbouring chunks merged, repetitions left out,"
        " within the bot's budget of tokens.",
    )
    bot_id: OpaqueId | None = Field(
        None,
        description="Search as this bot does: in its collections, with its expansion and its reranker. Default: none.",
    )
    explain: bool = Field(
        False, description="Whether each result says what each leg of the search made of it."
    )


class Leg(ResponseModel):
    rank: int | None = Field(description="Place in this leg's own list; null where this leg did not find it.")
    score: float


class Explanation(ResponseModel):
    """What each leg of the search made of a result, among all that either leg found."""

    dense: Leg = Field(description="By meaning; the score is the cosine.")
    lexical: Leg = Field(description="By words; the score is BM25.")
    coverage: float = Field(
        description="Share of the question's words, by their weight, that the passage contains."
    )


class SearchHit(ResponseModel):
    chunk_id: str
    document_id: str
    collection_id: str
    title: str
    source: str | None
    page: int
    start: int
    end: int
    text: str
    score: float = Field(description="Fused relevance from 0 to 1.")
    similarity: float = Field(description="Cosine of the question's and the passage's embeddings.")
    heading: str | None = Field(None, description="The headings that it stands under, the highest first.")

    explanation: Explanation | None = Field(None, description="With `explain` alone.")


class StepState(ResponseModel):
    """What became of a step that the bot wants; where it is not done, the search goes on without it."""

    done: bool
    reason: str | None = Field(description="Why it is not done: `timeout`, `personal_data`, `no_model`, …")


class SearchResponse(ResponseModel):
    results: list[SearchHit]
    reranking: StepState | None = Field(
        None, description="With a bot that has a reranker. Not done: the order is that of the search."
    )
    expansion: StepState | None = Field(
        None,
        description="With a bot that searches with other wordings of the question too. Not done: with the question alone.",
    )
    degraded: str | None = Field(
        None,
        description="Set where the embedding provider failed, so that the documents were searched by words alone: the code of its"
        " error.",
    )


def search_hit(hit: Hit, *, explained: bool) -> SearchHit:
    shown = SearchHit.model_validate(hit)
    if explained:
        shown.explanation = Explanation(
            dense=Leg(rank=hit.dense_rank, score=hit.similarity),
            lexical=Leg(rank=hit.lexical_rank, score=hit.lexical),
            coverage=hit.coverage,
        )
    return shown
