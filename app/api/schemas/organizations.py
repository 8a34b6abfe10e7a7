"""Organizations."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from app.api.schemas.base import CleanText, RequestModel, ResponseModel


class OrganizationResponse(ResponseModel):
    id: str
    name: str
    created_at: datetime


class OrganizationWrite(RequestModel):
    name: Annotated[CleanText, Field(min_length=1, max_length=200)]
