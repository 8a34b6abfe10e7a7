"""What the routes of one's own account take and give."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from app.api.schemas.base import CleanText, RequestModel, ResponseModel
from app.api.schemas.credentials import Code, Email, Name, NewPassword, OneTimeTokenText, Password
from app.core.principal import Role, Scope


class LoginForm(BaseModel):
    """OAuth2's password form, with the code of the second factor beside it. Its other fields are not asked about."""

    model_config = ConfigDict(extra="ignore")

    username: Annotated[CleanText, Field(max_length=320, description="The e-mail address.")]
    password: SecretStr = Field(max_length=256)
    totp_code: str | None = Field(
        None, max_length=40, description="Where a second factor is enrolled: its code, or a recovery code."
    )
    grant_type: Literal["password", ""] | None = None


class TokenResponse(ResponseModel):
    access_token: str
    refresh_token: str = Field(description="Works once, and gives the next pair.")
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 the name of OAuth2's field
    expires_in: int = Field(description="Seconds until the access token expires.")
    totp_enrolment_required: bool = Field(
        description="Until a second factor is enrolled, these tokens serve for /auth/totp alone."
    )


class RefreshRequest(RequestModel):
    refresh_token: OneTimeTokenText


class LogoutRequest(RequestModel):
    everywhere: bool = Field(False, description="End all logins of this account, not only this one.")


class SignupRequest(RequestModel):
    email: Email | None = Field(None, description="Needed unless an invitation names it.")
    password: NewPassword
    name: Name = ""
    organization_name: Annotated[CleanText, Field(min_length=1, max_length=200)] | None = Field(
        None, description="Without an invitation: the name of the new organization."
    )
    invitation: OneTimeTokenText | None = Field(None, description="The token of an invitation.")


class MeChange(RequestModel):
    name: Name


class PasswordChange(RequestModel):
    current_password: Password
    new_password: NewPassword


class PasswordResetRequest(RequestModel):
    token: OneTimeTokenText = Field(description="From the one-time link that an admin made.")
    new_password: NewPassword


class MeResponse(ResponseModel):
    id: str
    organization_id: str
    email: str
    name: str
    role: Role
    scopes: list[Scope]
    totp_enabled: bool
    totp_enrolment_required: bool
    recovery_codes_left: int
    created_at: datetime


class EnrolmentResponse(ResponseModel):
    secret: str = Field(description="For typing into an app that can't scan.")
    uri: str = Field(description="The `otpauth://` address.")
    qr_code: str = Field(description="The same as a QR code: an SVG in a `data:` URI.")


class CodeRequest(RequestModel):
    code: Code


class TotpDisableRequest(RequestModel):
    password: Password
    code: Code


class RecoveryCodesResponse(ResponseModel):
    recovery_codes: list[str] = Field(description="Each works once in place of a code. Shown only now.")
