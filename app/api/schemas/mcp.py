"""What agents give to the tools at /mcp, and get from them."""

import re
from typing import Final, Self

from pydantic import Field

from app.api.schemas.base import CleanText, OpaqueId, RequestModel, ResponseModel
from app.api.schemas.chat import Source, Usage
from app.api.schemas.search import CollectionIds, TopK
from app.core.retrieval import Hit, SearchFilter
from app.core.usage import in_dollars
from app.services.answers import Answer

ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def uri_of(document_id: str) -> str:
    """The address of a document's text as a resource."""
    return f"ibid://documents/{document_id}"


class _Arguments(RequestModel):
    collection_ids: CollectionIds | None = Field(None, description="Within these collections alone.")
    top_k: TopK | None = Field(None, description="How many passages.")

    def where(self) -> SearchFilter:
        return SearchFilter(collection_ids=tuple(self.collection_ids) if self.collection_ids else None)


class SearchArguments(_Arguments):
    query: CleanText = Field(min_length=1, max_length=8000, description="What to look for, in any language.")


class AskArguments(_Arguments):
    question: CleanText = Field(min_length=1, max_length=8000, pattern=r"\S", description="In any language.")
    bot_id: OpaqueId | None = Field(None, description="Who answers. Default: the organization's default bot.")


class Passage(ResponseModel):
    """A passage of a document: `start` and `end` are code points into the text of the page."""

    uri: str
    document_id: str
    collection_id: str
    chunk_id: str
    title: str
    source: str | None
    page: int
    start: int
    end: int
    text: str
    score: float

    @classmethod
    def of(cls, hit: Hit) -> Self:
        named = {name: getattr(hit, name) for name in cls.model_fields if name != "uri"}
        return cls(uri=uri_of(hit.document_id), **named)


class SearchOutcome(ResponseModel):
    results: list[Passage]
    degraded: str | None = Field(
        None,
        description="Set where words alone were compared: the code of the embedding provider's failure.",
    )


class CitedSource(Source):
    """A source of an answer, with the address of its document as a resource."""

    uri: str


class AskOutcome(ResponseModel):
    answer: str
    refused: bool
    sources: list[CitedSource]
    model: str
    finish_reason: str
    fallback_reason: str | None = Field(
        description="Why another one answered than the bot's model: the code of its error."
    )
    degraded: str | None = Field(
        description="Set where words alone were compared: the code of the embedding provider's failure."
    )
    usage: Usage

    @classmethod
    def of(cls, answer: Answer) -> Self:
        cost = answer.usage.cost_usd
        return cls(
            answer=answer.answer,
            refused=answer.refused,
            sources=[
                CitedSource(**Source.model_validate(source).model_dump(), uri=uri_of(source.document_id))
                for source in answer.sources
            ],
            model=answer.model,
            finish_reason=answer.finish_reason,
            fallback_reason=answer.fallback,
            degraded=answer.degraded,
            usage=Usage(
                prompt_tokens=answer.usage.prompt_tokens,
                completion_tokens=answer.usage.completion_tokens,
                cost_usd=None if cost is None else in_dollars(cost),
                estimated=answer.usage.estimated,
            ),
        )
