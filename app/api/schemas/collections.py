"""Collections and their access lists."""

from datetime import datetime
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from app.api.schemas.base import CleanText, NameText, OpaqueId, PartialModel, RequestModel, ResponseModel
from app.core.access import Permission, Visibility
from app.core.chunking import Splitter

Name = Annotated[NameText, Field(max_length=200, examples=["Handbooks"])]
Description = Annotated[CleanText, Field(max_length=2000)]
ChunkSize = Annotated[
    int,
    Field(
        ge=16,
        le=8000,
        description="Longest chunk of new documents, in tokens; null is the service's CHUNK_SIZE_TOKENS.",
    ),
]
ChunkOverlap = Annotated[
    int,
    Field(
        ge=0,
        le=4000,
        description="Tokens that a chunk repeats from the one before, at most half its size; null is CHUNK_OVERLAP_TOKENS.",
    ),
]
SPLITTER_DESCRIPTION: Final = (
    "`sentences`: as much as fits, ended at a paragraph or sentence; `headings`: the same, but never across a heading;"
    " `lines`: each line by itself, for lists, logs and tables."
)


class CreateCollectionRequest(RequestModel):
    name: Name
    description: Description = ""
    visibility: Visibility = Field(
        Visibility.ORGANIZATION,
        description="`organization`: for all its users; `restricted`: for those on the access list.",
    )
    chunk_size_tokens: ChunkSize | None = None
    chunk_overlap_tokens: ChunkOverlap | None = None
    splitter: Splitter = Field(Splitter.SENTENCES, description=SPLITTER_DESCRIPTION)


class ChangeCollectionRequest(PartialModel):
    """New settings of chunking are for documents that come from now on, and for those that are processed again."""

    clearable = frozenset({"chunk_size_tokens", "chunk_overlap_tokens"})

    name: Name | None = None
    description: Description | None = None
    visibility: Visibility | None = None
    chunk_size_tokens: ChunkSize | None = None
    chunk_overlap_tokens: ChunkOverlap | None = None
    splitter: Splitter | None = Field(None, description=SPLITTER_DESCRIPTION)


class CollectionResponse(ResponseModel):
    id: str = Field(examples=["col_01jd3v7q2mzt5w0c9h6k8n4r3x"])
    name: str
    description: str
    visibility: Visibility
    is_default: bool = Field(description="Documents go here when no collection is named.")
    owner_id: str | None = Field(description="The user whose personal collection it is.")
    session_id: str | None = Field(description="The caller's session whose files are in it.")
    created_by: str | None
    chunk_size_tokens: int | None
    chunk_overlap_tokens: int | None
    splitter: Splitter
    documents: int
    chunks: int
    created_at: datetime
    updated_at: datetime


class GrantRequest(RequestModel):
    permission: Permission = Field(
        Permission.READ, description="`write`: also add documents, and change and delete everybody's."
    )


class UserGrant(GrantRequest):
    user_id: OpaqueId


class AccessListRequest(RequestModel):
    users: Annotated[list[UserGrant], Field(max_length=1000)]

    @model_validator(mode="after")
    def _names_nobody_twice(self) -> Self:
        if len({user.user_id for user in self.users}) < len(self.users):
            raise ValueError("a user is named twice")
        return self


class CollectionUserResponse(ResponseModel):
    user_id: str
    permission: Permission
    created_at: datetime
