"""A rebuild of the index."""

from datetime import datetime
from typing import Any

from pydantic import Field

from app.api.schemas.base import NameText, RequestModel, ResponseModel
from app.core.chunking import Splitter
from app.services.rebuilds import Extent


class RebuildChunking(RequestModel):
    """How documents are cut; what is left out stays as it is."""

    size_tokens: int | None = Field(None, ge=16, le=8000, description="Longest chunk, in tokens.")
    overlap_tokens: int | None = Field(
        None, ge=0, le=4000, description="Tokens repeated from the chunk before."
    )
    splitter: Splitter | None = Field(
        None, description="Where a chunk ends; of an organization's rebuild only."
    )


class RebuildRequest(RequestModel):
    embedding_model: NameText | None = Field(
        None,
        max_length=200,
        description="The model to change to: `local`, or one of the provider's; left out, the one that there is.",
        examples=["text-embedding-3-large"],
    )
    dimension: int | None = Field(
        None, ge=1, le=16_000, description="Of its vectors, where the model can shorten them."
    )
    chunking: RebuildChunking = Field(default_factory=RebuildChunking)
    scope: Extent | None = Field(
        None,
        description="`installation` (for superadmins; their default) or `organization`: its documents are chunked anew one by"
        " one, by settings that its collections get.",
    )


class RebuildResponse(ResponseModel):
    id: str
    scope: Extent
    state: str = Field(
        description="running, switched (the new index is served, the old one is being removed), completed, cancelling,"
        " cancelled, or failed (what is served stays; the same request goes on with it)."
    )
    embedding_model: str = Field(description="The model's fingerprint.")
    dimension: int
    size_tokens: int | None
    overlap_tokens: int | None
    documents_done: int
    documents_total: int
    progress: float = Field(description="0 to 1.")
    error: dict[str, Any] | None = Field(description="What holds it up, or has stopped it.")
    created_at: datetime
    switched_at: datetime | None
    ended_at: datetime | None
