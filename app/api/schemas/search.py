"""Retrieval alone."""

from typing import Annotated

from pydantic import Field

from app.api.schemas.base import OpaqueId, RequestModel, ResponseModel
from app.api.schemas.filters import Filters

CollectionIds = Annotated[list[OpaqueId], Field(min_length=1, max_length=100)]
TopK = Annotated[int, Field(ge=1, le=50)]


class SearchRequest(RequestModel):
    query: str = Field(min_length=1, max_length=8000)
    collection_ids: CollectionIds | None = None
    filters: Filters | None = None
    top_k: TopK | None = Field(None, description="Default: the setting TOP_K_DEFAULT.")


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


class SearchResponse(ResponseModel):
    results: list[SearchHit]
