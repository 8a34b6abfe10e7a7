"""Users and invitations, as admins manage them."""

from datetime import datetime
from typing import Final

from pydantic import Field

from app.api.schemas.base import RequestModel, ResponseModel
from app.api.schemas.credentials import Email, Name, NewPassword
from app.core.principal import Role


class UserResponse(ResponseModel):
    id: str
    organization_id: str
    email: str
    name: str
    role: Role
    is_active: bool
    totp_enabled: bool
    created_at: datetime


class UserCreate(RequestModel):
    email: Email
    name: Name = ""
    role: Role = Role.USER
    password: NewPassword | None = Field(
        None, description="Without one, the answer has a one-time token with which the user sets it."
    )


_URL: Final = "The same as a link, where the setting PUBLIC_URL is there."


class OneTimeTokenResponse(ResponseModel):
    token: str = Field(description="Hand it to the user. Shown only now; works once.")
    url: str | None = Field(description=_URL)
    expires_at: datetime


class CreatedUserResponse(UserResponse):
    password_token: OneTimeTokenResponse | None = Field(
        description="For POST /auth/password-reset; null where a password was given."
    )


class UserChange(RequestModel):
    name: Name | None = None
    role: Role | None = None
    is_active: bool | None = None
    keep_api_keys: bool = Field(
        False, description="With a deactivation or demotion: leave the API keys that the user made working."
    )


class InvitationCreate(RequestModel):
    email: Email
    role: Role = Role.USER


class InvitationResponse(ResponseModel):
    id: str
    email: str
    role: Role
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None


class CreatedInvitationResponse(InvitationResponse):
    token: str = Field(description="For POST /auth/signup. Shown only now; works once.")
    url: str | None = Field(description=_URL)
