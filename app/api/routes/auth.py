"""One's own account: sign up, log in, stay logged in, log out, name and password."""

from fastapi import APIRouter, Request, Response

from app.api import quotas
from app.api.deps import WITHIN_LOGIN_LIMIT, AddressDep, EnrollingUserDep, RuntimeDep, UserDep
from app.api.forms import form_schema, read_form
from app.api.schemas.auth import (
    LoginForm,
    LogoutRequest,
    MeChange,
    MeResponse,
    PasswordChange,
    PasswordResetRequest,
    RefreshRequest,
    SignupRequest,
    TokenResponse,
)
from app.api.schemas.users import UserResponse
from app.services import accounts, logins, passwords, signup

router = APIRouter(prefix="/auth", tags=["auth"])


@router.post("/signup", status_code=201, dependencies=[WITHIN_LOGIN_LIMIT], responses=quotas.RESPONSES)
async def sign_up(body: SignupRequest, runtime: RuntimeDep, address: AddressDep) -> UserResponse:
    """Make an account, as far as the setting SIGNUP allows; then log in."""
    applicant = signup.Applicant(
        email=body.email,
        password=body.password.get_secret_value(),
        name=body.name,
        organization_name=body.organization_name,
        invitation=body.invitation.get_secret_value() if body.invitation else None,
    )
    return UserResponse.model_validate(await signup.sign_up(runtime, applicant, address=address))


@router.post(
    "/login",
    openapi_extra=form_schema(LoginForm),
    dependencies=[WITHIN_LOGIN_LIMIT],
    responses=quotas.RESPONSES,
)
async def log_in(
    request: Request, response: Response, runtime: RuntimeDep, address: AddressDep
) -> TokenResponse:
    """Log in with e-mail address and password (OAuth2 password form; JSON with the same fields works too).

    Where a second factor is enrolled, the answer without its code is 401 `totp_required`.
    """
    form = await read_form(request, LoginForm)
    tokens = await logins.login(
        runtime,
        email=form.username.strip().lower(),
        password=form.password.get_secret_value(),
        totp_code=form.totp_code,
        address=address,
    )
    return _answer(response, tokens)


@router.post("/refresh")
async def refresh(body: RefreshRequest, response: Response, runtime: RuntimeDep) -> TokenResponse:
    """The next pair of tokens. A refresh token works once; used again, it ends the login."""
    return _answer(response, await logins.refresh(runtime, body.refresh_token.get_secret_value()))


@router.post("/logout", status_code=204)
async def log_out(runtime: RuntimeDep, caller: EnrollingUserDep, body: LogoutRequest | None = None) -> None:
    """End this login, or all logins of the account. Access tokens end with it."""
    await logins.logout(runtime, caller, everywhere=body is not None and body.everywhere)


@router.get("/me")
async def get_me(runtime: RuntimeDep, caller: EnrollingUserDep) -> MeResponse:
    """One's own account."""
    return MeResponse.model_validate(await accounts.own(runtime, caller))


@router.patch("/me")
async def change_me(body: MeChange, runtime: RuntimeDep, caller: UserDep) -> MeResponse:
    """Change one's own name."""
    return MeResponse.model_validate(await accounts.rename(runtime, caller, name=body.name))


@router.post("/password", status_code=204)
async def change_password(
    body: PasswordChange, runtime: RuntimeDep, caller: UserDep, address: AddressDep
) -> None:
    """Change the password. All other logins end."""
    await passwords.change(
        runtime,
        caller,
        present=body.current_password.get_secret_value(),
        new=body.new_password.get_secret_value(),
        address=address,
    )


@router.post(
    "/password-reset", status_code=204, dependencies=[WITHIN_LOGIN_LIMIT], responses=quotas.RESPONSES
)
async def reset_password(body: PasswordResetRequest, runtime: RuntimeDep, address: AddressDep) -> None:
    """Set a new password by a one-time token from an admin. All logins end."""
    await passwords.reset(
        runtime,
        token=body.token.get_secret_value(),
        new=body.new_password.get_secret_value(),
        address=address,
    )


def _answer(response: Response, tokens: logins.Tokens) -> TokenResponse:
    response.headers["Cache-Control"] = "no-store"
    return TokenResponse(
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_in=tokens.expires_in_seconds,
        totp_enrolment_required=tokens.totp_enrolment_required,
    )
