"""The users of the organization, for its admins."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api.deps import ManagePrincipal, RuntimeDep
from app.api.paging import Cursor, Limit, Offset, link_next
from app.api.schemas.base import OpaqueId
from app.api.schemas.users import (
    CreatedInvitationResponse,
    CreatedUserResponse,
    InvitationCreate,
    InvitationResponse,
    OneTimeTokenResponse,
    UserChange,
    UserCreate,
    UserResponse,
)
from app.core.text import clean
from app.services import users

router = APIRouter(prefix="/users", tags=["users"])


@router.get("")
async def list_users(
    request: Request,
    response: Response,
    runtime: RuntimeDep,
    principal: ManagePrincipal,
    limit: Limit = 50,
    cursor: Cursor = None,
    offset: Offset = 0,
    email: Annotated[
        str | None, Query(max_length=320, description="Part of the address, in any case.")
    ] = None,
) -> list[UserResponse]:
    """The organization's users, newest first."""
    page, following = await users.newest(
        runtime, principal, limit=limit, after=cursor, offset=offset, email=email and clean(email)
    )
    if following:
        link_next(request, response, cursor=following, offset=0)
    return [UserResponse.model_validate(user) for user in page]


@router.post("", status_code=201)
async def create_user(
    body: UserCreate, response: Response, runtime: RuntimeDep, principal: ManagePrincipal
) -> CreatedUserResponse:
    """Make an account: with a password, or with a one-time token by which the user sets one."""
    user, link = await users.create(
        runtime,
        principal,
        email=body.email,
        name=body.name,
        role=body.role,
        password=body.password.get_secret_value() if body.password else None,
    )
    response.headers["Cache-Control"] = "no-store"
    shown = UserResponse.model_validate(user).model_dump()
    token = OneTimeTokenResponse.model_validate(link) if link else None
    return CreatedUserResponse(**shown, password_token=token)


@router.get("/invitations")
async def list_invitations(
    request: Request,
    response: Response,
    runtime: RuntimeDep,
    principal: ManagePrincipal,
    limit: Limit = 50,
    cursor: Cursor = None,
    offset: Offset = 0,
) -> list[InvitationResponse]:
    """Invitations that are open or were accepted, newest first."""
    page, following = await users.newest_invitations(
        runtime, principal, limit=limit, after=cursor, offset=offset
    )
    if following:
        link_next(request, response, cursor=following, offset=0)
    return [InvitationResponse.model_validate(invitation) for invitation in page]


@router.post("/invitations", status_code=201)
async def invite(
    body: InvitationCreate, response: Response, runtime: RuntimeDep, principal: ManagePrincipal
) -> CreatedInvitationResponse:
    """Invite somebody to sign up in this organization (settings SIGNUP=invitation and SIGNUP=open)."""
    invitation, link = await users.invite(runtime, principal, email=body.email, role=body.role)
    response.headers["Cache-Control"] = "no-store"
    shown = InvitationResponse.model_validate(invitation).model_dump()
    return CreatedInvitationResponse(**shown, token=link.token, url=link.url)


@router.delete("/invitations/{invitation_id}", status_code=204)
async def withdraw_invitation(
    invitation_id: OpaqueId, runtime: RuntimeDep, principal: ManagePrincipal
) -> None:
    """Withdraw an invitation."""
    await users.withdraw_invitation(runtime, principal, invitation_id)


@router.get("/{user_id}")
async def get_user(user_id: OpaqueId, runtime: RuntimeDep, principal: ManagePrincipal) -> UserResponse:
    """One user."""
    return UserResponse.model_validate(await users.get(runtime, principal, user_id))


@router.patch("/{user_id}")
async def change_user(
    user_id: OpaqueId, body: UserChange, runtime: RuntimeDep, principal: ManagePrincipal
) -> UserResponse:
    """Rename, promote, demote, deactivate or reactivate a user. It counts on their next request.

    Who is no admin any more leaves no way in: invitations, password resets and API keys that they made work no more.
    """
    changes = users.UserChanges(
        name=body.name, role=body.role, is_active=body.is_active, keep_api_keys=body.keep_api_keys
    )
    return UserResponse.model_validate(await users.update(runtime, principal, user_id, changes))


@router.delete("/{user_id}", status_code=204)
async def delete_user(
    user_id: OpaqueId,
    runtime: RuntimeDep,
    principal: ManagePrincipal,
    keep_api_keys: Annotated[
        bool, Query(description="Leave the API keys that the user made working.")
    ] = False,
) -> None:
    """Delete a user with their logins, conversations and API keys. Their documents stay with the organization."""
    await users.delete(runtime, principal, user_id, keep_api_keys=keep_api_keys)


@router.post("/{user_id}/password-reset", status_code=201)
async def make_password_reset(
    user_id: OpaqueId, response: Response, runtime: RuntimeDep, principal: ManagePrincipal
) -> OneTimeTokenResponse:
    """A one-time token by which the user sets a new password."""
    link = await users.make_password_reset(runtime, principal, user_id)
    response.headers["Cache-Control"] = "no-store"
    return OneTimeTokenResponse.model_validate(link)


@router.delete("/{user_id}/totp", status_code=204)
async def disable_totp(user_id: OpaqueId, runtime: RuntimeDep, principal: ManagePrincipal) -> None:
    """Take the second factor from a user who lost the device and the recovery codes. Their logins end."""
    await users.disable_totp(runtime, principal, user_id)
