"""Documents, chunks and the ingestion of text."""

import json
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, AliasChoices, Field

from app.api.schemas.base import (
    CleanText,
    JsonObject,
    NameText,
    OpaqueId,
    PartialModel,
    RequestModel,
    ResponseModel,
    Tag,
)

_MAX_METADATA_KEYS: Final = 100
_MAX_METADATA_CHARACTERS: Final = 100_000


def _within_limit(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(metadata)) > _MAX_METADATA_CHARACTERS:
        raise ValueError(f"metadata is larger than {_MAX_METADATA_CHARACTERS:,} characters")
    return metadata


Title = Annotated[NameText, Field(max_length=500)]
Metadata = Annotated[JsonObject, Field(max_length=_MAX_METADATA_KEYS), AfterValidator(_within_limit)]


class ChangeDocumentRequest(PartialModel):
    """`tags` and `metadata` are replaced as a whole; `source: null` clears it."""

    clearable = frozenset({"source"})

    title: Title | None = None
    source: Annotated[CleanText, Field(max_length=2000)] | None = None
    tags: Annotated[list[Tag], Field(max_length=100)] | None = None
    metadata: Metadata | None = None
    collection_id: OpaqueId | None = Field(None, description="Moves the document to this collection.")

    @property
    def values(self) -> dict[str, Any]:
        """What was sent, by the names of the document's own fields."""
        return {"metadata_" if name == "metadata" else name: value for name, value in self.given.items()}


class IngestRequest(RequestModel):
    text: str = Field(
        min_length=1, description="The text itself; kept as it is, except that NUL characters are dropped."
    )
    title: Annotated[CleanText, Field(max_length=500)] | None = Field(
        None, description="Default: the first line."
    )
    source: Annotated[CleanText, Field(max_length=2000)] | None = Field(
        None, description="Where it comes from, shown with every citation.", examples=["brochure_v1.pdf"]
    )
    tags: list[Tag] = Field(default_factory=list, max_length=100, examples=[["ems"]])
    metadata: Metadata = Field(
        default_factory=dict, description="Anything to filter by. A list of texts under `tags` becomes tags."
    )
    collection_id: OpaqueId | None = Field(
        None,
        description="Default: a user's own personal collection; for others the organization's default one.",
    )
    document_id: OpaqueId | None = Field(None, description="Replace the text of this document.")

    @property
    def all_tags(self) -> tuple[str, ...]:
        within = self.metadata.get("tags")
        extra = [tag for tag in within if isinstance(tag, str) and tag] if isinstance(within, list) else []
        return tuple(dict.fromkeys([*self.tags, *extra]))


class IngestResponse(ResponseModel):
    document_id: str = Field(examples=["doc_01jd3v7q2mzt5w0c9h6k8n4r3x"])
    status: Literal["indexed"] = Field(description="The text is searchable.")
    duplicate: bool = Field(description="The collection had this text already; nothing was stored again.")
    chunks: int


class DocumentResponse(ResponseModel):
    id: str
    collection_id: str
    title: str
    source: str | None
    content_type: str
    size_bytes: int
    status: Literal["uploaded", "processing", "completed", "failed"]
    tags: list[str]
    metadata: dict[str, Any] = Field(validation_alias=AliasChoices("metadata_", "metadata"))
    pages: int = Field(validation_alias=AliasChoices("page_count", "pages"))
    chunks: int = Field(validation_alias=AliasChoices("chunk_count", "chunks"))
    created_at: datetime
    updated_at: datetime


class ChunkResponse(ResponseModel):
    """A passage: characters `start` to `end` (code points) of the text of its page."""

    id: str
    document_id: str
    ordinal: int
    page: int
    start: int = Field(validation_alias=AliasChoices("char_start", "start"))
    end: int = Field(validation_alias=AliasChoices("char_end", "end"))
    text: str
