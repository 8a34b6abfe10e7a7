"""API keys."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from app.api.schemas.base import CleanText, Moment, OpaqueId, RequestModel, ResponseModel
from app.core.principal import Scope
from app.core.rates import own_rates


def _of_rates(text: str) -> str:
    own_rates(text)
    return text


KeyRateLimit = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_of_rates)]


class ApiKeyCreate(RequestModel):
    name: Annotated[CleanText, Field(min_length=1, max_length=200)]
    scopes: list[Scope] = Field(min_length=1, max_length=len(Scope))
    collection_ids: Annotated[list[OpaqueId], Field(min_length=1, max_length=100)] | None = Field(
        None, description="Restrict the key to these collections."
    )
    expires_at: Moment | None = Field(None, description="With its time zone. Default: never.")
    bot_id: OpaqueId | None = Field(
        None, description="Bind the key to this bot: it talks to no other, and has the scope `chat` alone."
    )
    rate_limit: KeyRateLimit | None = Field(
        None,
        description="What the key may do in all (chat, search and ingest together), besides the service's own limits.",
        examples=["100/minute, 1000/hour"],
    )


class ApiKeyResponse(ResponseModel):
    id: str
    name: str
    prefix: str = Field(description="How the key begins.", examples=["ibid_3f9a1c0d7e42"])
    scopes: list[Scope]
    collection_ids: list[str] | None
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    rate_limit: str | None
    bot_id: str | None
    last_used_at: datetime | None = Field(description="To the minute.")


class CreatedApiKeyResponse(ApiKeyResponse):
    key: str = Field(description="The key itself. Shown only now.")
