"""Documents, chunks and the ingestion of text."""

import json
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, model_validator

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

Share = Annotated[float, Field(ge=0, le=1), AfterValidator(lambda share: round(share, 3))]
"""As it is stored, 0.3 is 0.30000001192092896."""

Status = Literal["uploaded", "processing", "completed", "failed"]
Stage = Literal["parsing", "chunking", "embedding", "indexing"]

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
    """A text, or the address of a page."""

    text: str | None = Field(
        None,
        min_length=1,
        description="The text itself; kept as it is, except that NUL characters are dropped.",
    )
    url: str | None = Field(
        None,
        min_length=1,
        max_length=2000,
        description="Address of a web page or a file on the web, which is fetched and then processed as an upload is.",
        examples=["https://example.com/handbook.html"],
    )
    wait: bool = Field(
        True,
        description="Of a text: whether to answer when it is searchable, or as soon as it is stored (202, `uploaded`).",
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

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.text is None) == (self.url is None):
            raise ValueError("send either `text` or `url`")
        return self

    @property
    def all_tags(self) -> tuple[str, ...]:
        return _all_tags(self.tags, self.metadata)


def _all_tags(tags: list[str], metadata: dict[str, Any]) -> tuple[str, ...]:
    """The tags, and those that stand in the metadata."""
    within = metadata.get("tags")
    extra = [tag for tag in within if isinstance(tag, str) and tag] if isinstance(within, list) else []
    return tuple(dict.fromkeys([*tags, *extra]))


class IngestResponse(ResponseModel):
    document_id: str = Field(examples=["doc_01jd3v7q2mzt5w0c9h6k8n4r3x"])
    status: Literal["indexed", "uploaded", "processing", "failed"] = Field(
        description="`indexed`: it is searchable. Otherwise it waits to be processed or is; ask for the document."
    )
    duplicate: bool = Field(description="The collection had this already; nothing was stored again.")
    chunks: int


class UploadFields(RequestModel):
    """What may stand in the form beside the files. Title, source and document_id are for one file."""

    title: Title | None = None
    source: Annotated[CleanText, Field(max_length=2000)] | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=100, description="One field for each tag.")
    metadata: Metadata = Field(default_factory=dict, description="A JSON object.")
    collection_id: OpaqueId | None = None
    document_id: OpaqueId | None = Field(None, description="Replace the content of this document.")

    @property
    def all_tags(self) -> tuple[str, ...]:
        return _all_tags(self.tags, self.metadata)


class DocumentError(ResponseModel):
    """Why a document failed, or why it waits to be tried again."""

    code: str = Field(examples=["encrypted"])
    message: str
    retryable: bool = Field(description="Whether another try may go better.")


class UploadError(ResponseModel):
    code: str
    message: str
    details: dict[str, Any]


class UploadResponse(ResponseModel):
    """What became of one file; `error` when it was not taken, and then there is no document."""

    document_id: str | None = Field(examples=["doc_01jd3v7q2mzt5w0c9h6k8n4r3x"])
    filename: str | None
    status: Status | None
    duplicate: bool = Field(description="The collection had this file already; nothing was stored again.")
    error: UploadError | None = None


class DocumentResponse(ResponseModel):
    id: str
    collection_id: str
    title: str
    source: str | None
    filename: str | None
    url: str | None
    content_type: str
    size_bytes: int
    status: Status
    stage: Stage | None = Field(description="What is being done while the status is `processing`.")
    progress: Share
    error: DocumentError | None
    attempts: int = Field(description="How often processing was started.")
    tags: list[str]
    metadata: dict[str, Any] = Field(validation_alias=AliasChoices("metadata_", "metadata"))
    extraction: dict[str, Any] = Field(
        description="What was found beside the text: kind of pages, language, metadata of the file, warnings."
    )
    pages: int = Field(validation_alias=AliasChoices("page_count", "pages"))
    chunks: int = Field(
        validation_alias=AliasChoices("chunk_count", "chunks"),
        description="Of the version that is served; while a document is replaced, that is the one before.",
    )
    created_at: datetime
    updated_at: datetime

    @model_validator(mode="after")
    def _completed_is_all(self) -> Self:
        if self.status == "completed":
            self.progress = 1.0
        return self


class DocumentEvent(ResponseModel):
    """A state of a document: `progress` until `completed` or `failed`; `deleted` when it is gone."""

    type: Literal["progress", "completed", "failed", "deleted"]
    document_id: str
    status: Status | None = None
    stage: Stage | None = None
    progress: Share | None = None
    attempts: int | None = None
    error: DocumentError | None = None
    pages: int | None = None
    chunks: int | None = None


class PageResponse(ResponseModel):
    """A page of the extracted text; `label` names a sheet, a slide or an attachment."""

    page: int = Field(validation_alias=AliasChoices("number", "page"))
    label: str | None
    text: str


class ChunkResponse(ResponseModel):
    """A passage: characters `start` to `end` (code points) of the text of its page."""

    id: str
    document_id: str
    ordinal: int
    page: int
    start: int = Field(validation_alias=AliasChoices("char_start", "start"))
    end: int = Field(validation_alias=AliasChoices("char_end", "end"))
    text: str
