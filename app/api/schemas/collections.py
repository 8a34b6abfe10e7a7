"""Collections and their access lists."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, model_validator

from app.api.schemas.base import CleanText, NameText, OpaqueId, PartialModel, RequestModel, ResponseModel
from app.core.access import Permission, Visibility

Name = Annotated[NameText, Field(max_length=200, examples=["Handbooks"])]
Description = Annotated[CleanText, Field(max_length=2000)]


class CreateCollectionRequest(RequestModel):
    name: Name
    description: Description = ""
    visibility: Visibility = Field(
        Visibility.ORGANIZATION,
        description="`organization`: for all its users; `restricted`: for those on the access list.",
    )


class ChangeCollectionRequest(PartialModel):
    name: Name | None = None
    description: Description | None = None
    visibility: Visibility | None = None


class CollectionResponse(ResponseModel):
    id: str = Field(examples=["col_01jd3v7q2mzt5w0c9h6k8n4r3x"])
    name: str
    description: str
    visibility: Visibility
    is_default: bool = Field(description="Documents go here when no collection is named.")
    owner_id: str | None = Field(description="The user whose personal collection it is.")
    created_by: str | None
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
