"""OpenAI's search in a vector store, which here is a collection."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from app.api.schemas.base import CleanText, RequestModel, ResponseModel
from app.core.retrieval import Condition, Hit, Operator, Scalar, SearchFilter

FilterValue = (
    Annotated[str, Field(max_length=1000)] | bool | Annotated[int, Field(ge=-(2**53), le=2**53)] | float
)


class Comparison(RequestModel):
    """A condition on the metadata of documents."""

    type: Literal["eq", "gt", "gte", "lt", "lte", "in"]
    key: Annotated[CleanText, Field(min_length=1, max_length=100)]
    value: FilterValue | Annotated[list[FilterValue], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if isinstance(self.value, list) != (self.type == "in"):
            raise ValueError("a list of values belongs to the type 'in', one value to all others")
        return self

    def condition(self) -> Condition:
        values: tuple[Scalar, ...] = tuple(self.value) if isinstance(self.value, list) else (self.value,)
        return Condition(self.key, Operator(self.type), values)


class AllOf(RequestModel):
    """Conditions that must all hold."""

    type: Literal["and"]
    filters: Annotated[list[Comparison], Field(min_length=1, max_length=20)]


class RankingOptions(RequestModel):
    ranker: str | None = Field(None, max_length=100, description="Taken, and not followed.")
    score_threshold: float | None = Field(None, ge=0, le=1)


class VectorStoreSearch(RequestModel):
    query: (
        Annotated[CleanText, Field(min_length=1, max_length=8000)]
        | Annotated[
            list[Annotated[CleanText, Field(min_length=1, max_length=8000)]],
            Field(min_length=1, max_length=8),
        ]
    ) = Field(description="Several are searched for as one question.")
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    filters: Comparison | AllOf | None = Field(
        None, description="Comparisons (`eq`, `gt`, `gte`, `lt`, `lte`, `in`), or `and` of them."
    )
    ranking_options: RankingOptions | None = None
    rewrite_query: bool | None = Field(None, description="Taken; a question is searched as it is.")

    @model_validator(mode="after")
    def _is_a_question(self) -> Self:
        if not self.question.strip() or len(self.question) > 8000:
            raise ValueError("query: a text of at most 8000 characters")
        return self

    @property
    def question(self) -> str:
        return self.query if isinstance(self.query, str) else "\n".join(self.query)

    def where(self, collection_id: str) -> SearchFilter:
        comparisons: list[Comparison] = []
        if self.filters is not None:
            comparisons = self.filters.filters if isinstance(self.filters, AllOf) else [self.filters]
        return SearchFilter(
            collection_ids=(collection_id,),
            metadata=tuple(comparison.condition() for comparison in comparisons),
        )


class VectorStoreContent(ResponseModel):
    type: Literal["text"] = "text"
    text: str


class VectorStoreResult(ResponseModel):
    file_id: str = Field(description="The document's id.")
    filename: str
    score: float
    attributes: dict[str, Any] = Field(
        description="Where the passage stands: `chunk_id`, `page`, `start`, `end`."
    )
    content: list[VectorStoreContent]


class VectorStorePage(ResponseModel):
    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[VectorStoreResult]
    has_more: bool = False
    next_page: str | None = None
    degraded: str | None = Field(
        None,
        description="Not OpenAI's: set where words alone were compared, the code of the embedding provider's failure.",
    )


def page(asked: VectorStoreSearch, hits: list[Hit], *, degraded: str | None = None) -> VectorStorePage:
    """The hits as OpenAI shows them; those below the threshold are left out."""
    options = asked.ranking_options
    least = (options and options.score_threshold) or 0.0
    return VectorStorePage(
        search_query=[asked.query] if isinstance(asked.query, str) else list(asked.query),
        data=[
            VectorStoreResult(
                file_id=hit.document_id,
                filename=hit.source or hit.title,
                score=hit.score,
                attributes={
                    "title": hit.title,
                    "chunk_id": hit.chunk_id,
                    "collection_id": hit.collection_id,
                    "page": hit.page,
                    "start": hit.start,
                    "end": hit.end,
                },
                content=[VectorStoreContent(text=hit.text)],
            )
            for hit in hits
            if hit.score >= least
        ],
        degraded=degraded,
    )
