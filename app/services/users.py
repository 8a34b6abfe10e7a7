"""The users of an organization, as its admins manage them.

Two rules hold however many admins act at once: nobody gives or touches rights that they do not have themselves, and the
last admin of an organization and the last superadmin stay. So every change is made under one lock, and the rights of
whoever makes it are read again under that lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from app.core import clock, cursor, security
from app.core.errors import (
    BeyondOwnRights,
    EmailTaken,
    InvitationNotFound,
    LastAdmin,
    LastSuperadmin,
    SignupClosed,
    UserNotFound,
)
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.db.engine import Transaction
from app.db.models import Invitation, User
from app.db.repositories.accounts import AccountRepository
from app.db.repositories.api_keys import ApiKeyRepository
from app.db.repositories.logins import LoginRepository
from app.db.repositories.one_time import OneTimeRepository
from app.db.repositories.users import UserRepository
from app.services import passwords
from app.services.runtime import Runtime

_INVITATION_LIFETIME: Final = timedelta(days=7)
_RESET_LIFETIME: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class OneTimeToken:
    """Shown once to the admin, who hands it over; stored only as a hash."""

    token: str = field(repr=False)
    expires_at: datetime
    url: str | None = field(default=None, repr=False)
    """The same as an address to open, where the setting PUBLIC_URL says how clients reach the service."""


@dataclass(frozen=True, slots=True)
class UserChanges:
    """What to change; None leaves it."""

    name: str | None = None
    role: Role | None = None
    is_active: bool | None = None
    keep_api_keys: bool = False


async def newest(
    runtime: Runtime, principal: Principal, *, limit: int, after: str | None, offset: int, email: str | None
) -> tuple[Sequence[User], str | None]:
    """A page of the organization's users, newest first, and the cursor of the next one. Raises InvalidCursor."""
    position = cursor.decode(after) if after else None
    async with runtime.database.unit_of_work(SYSTEM) as session:
        rows = await UserRepository(session, principal).newest(
            limit=limit + 1, after=position, offset=offset, email=email
        )
    following = cursor.encode(rows[limit - 1].created_at, rows[limit - 1].id) if len(rows) > limit else None
    return rows[:limit], following


async def get(runtime: Runtime, principal: Principal, user_id: str) -> User:
    """A user of the organization. Raises UserNotFound."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        return await _found(UserRepository(session, principal), user_id)


async def create(
    runtime: Runtime, principal: Principal, *, email: str, name: str, role: Role, password: str | None
) -> tuple[User, OneTimeToken | None]:
    """An account made by an admin; without a password, with a one-time link to set one.

    Raises EmailTaken or BeyondOwnRights.
    """
    password_hash = await passwords.hashed(password) if password else security.NO_PASSWORD
    async with runtime.database.unit_of_work(SYSTEM) as session:
        users = await _locked(session, principal)
        await _require_rights(users, role)
        user = await AccountRepository(session).add(
            organization_id=principal.organization,
            email=email,
            name=name,
            password_hash=password_hash,
            role=role,
        )
        if user is None:
            raise EmailTaken
        link = None
        if not password:
            link = _new_link(runtime, _INVITATION_LIFETIME, page="set-password")
            await _add_reset(session, principal, user.id, link)
    return user, link


async def update(runtime: Runtime, principal: Principal, user_id: str, changes: UserChanges) -> User:
    """Rename, promote, demote, deactivate or reactivate a user; it counts on their next request.

    Raises UserNotFound, BeyondOwnRights, LastAdmin or LastSuperadmin.
    """
    async with runtime.database.unit_of_work(SYSTEM) as session:
        users = await _locked(session, principal)
        user = await _found(users, user_id)
        role = changes.role or Role(user.role)
        active = user.is_active if changes.is_active is None else changes.is_active
        await _require_rights(users, Role(user.role), role)
        await _require_others(users, user, role=role, active=active)
        values: dict[str, Any] = {"role": role, "is_active": active}
        if changes.name is not None:
            values["name"] = changes.name
        if user.is_active and not active:
            await LoginRepository(session).end_all(user_id)
        if not active or role is Role.USER:
            await _close_doors(session, principal, user_id, keep_api_keys=changes.keep_api_keys)
        return await users.update(user_id, values)


async def delete(
    runtime: Runtime, principal: Principal, user_id: str, *, keep_api_keys: bool = False
) -> None:
    """Delete a user with their logins and conversations; documents stay with the organization.

    Raises UserNotFound, BeyondOwnRights, LastAdmin or LastSuperadmin.
    """
    async with runtime.database.unit_of_work(SYSTEM) as session:
        users = await _locked(session, principal)
        user = await _found(users, user_id)
        await _require_rights(users, Role(user.role))
        await _require_others(users, user, role=Role.USER, active=False)
        await _close_doors(session, principal, user_id, keep_api_keys=keep_api_keys)
        await users.delete(user_id)


async def make_password_reset(runtime: Runtime, principal: Principal, user_id: str) -> OneTimeToken:
    """A one-time link by which a user sets a new password. Raises UserNotFound or BeyondOwnRights."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        users = await _locked(session, principal)
        user = await _found(users, user_id)
        await _require_rights(users, Role(user.role))
        link = _new_link(runtime, _RESET_LIFETIME, page="set-password")
        await _add_reset(session, principal, user_id, link)
    return link


async def disable_totp(runtime: Runtime, principal: Principal, user_id: str) -> None:
    """Take the second factor from a user who lost the device and the recovery codes, and end their logins.

    Raises UserNotFound or BeyondOwnRights.
    """
    async with runtime.database.unit_of_work(SYSTEM) as session:
        users = await _locked(session, principal)
        user = await _found(users, user_id)
        await _require_rights(users, Role(user.role))
        await AccountRepository(session).disable_totp(user_id)
        await LoginRepository(session).end_all(user_id)


async def invite(
    runtime: Runtime, principal: Principal, *, email: str, role: Role
) -> tuple[Invitation, OneTimeToken]:
    """An invitation to sign up in this organization. Raises SignupClosed, EmailTaken or BeyondOwnRights."""
    if runtime.settings.signup == "closed":
        raise SignupClosed(
            "Nobody can sign up here (setting SIGNUP), invited or not: create the user instead."
        )
    link = _new_link(runtime, _INVITATION_LIFETIME, page="join")
    async with runtime.database.unit_of_work(SYSTEM) as session:
        users = await _locked(session, principal)
        await _require_rights(users, role)
        if await AccountRepository(session).find_by_email(email) is not None:
            raise EmailTaken
        invitation = await OneTimeRepository(session, principal).add_invitation(
            email=email, role=role, token_hash=security.token_hash(link.token), expires_at=link.expires_at
        )
    return invitation, link


async def newest_invitations(
    runtime: Runtime, principal: Principal, *, limit: int, after: str | None, offset: int
) -> tuple[Sequence[Invitation], str | None]:
    """A page of invitations, newest first, and the cursor of the next one. Raises InvalidCursor."""
    position = cursor.decode(after) if after else None
    async with runtime.database.unit_of_work(SYSTEM) as session:
        rows = await OneTimeRepository(session, principal).newest_invitations(
            limit=limit + 1, after=position, offset=offset
        )
    following = cursor.encode(rows[limit - 1].created_at, rows[limit - 1].id) if len(rows) > limit else None
    return rows[:limit], following


async def withdraw_invitation(runtime: Runtime, principal: Principal, invitation_id: str) -> None:
    """Make an invitation worthless. Raises InvitationNotFound."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        if not await OneTimeRepository(session, principal).delete_invitation(invitation_id):
            raise InvitationNotFound


async def _close_doors(
    session: Transaction, principal: Principal, user_id: str, *, keep_api_keys: bool
) -> None:
    """Who is no admin any more leaves no way in: no invitation, no reset, no API key that only they have seen."""
    await OneTimeRepository(session, principal).withdraw_made_by(user_id)
    if not keep_api_keys:
        await ApiKeyRepository(session, principal).revoke_made_by(user_id)


async def _locked(session: Transaction, principal: Principal) -> UserRepository:
    """The users, of whom nobody's rights change until this transaction ends."""
    users = UserRepository(session, principal)
    await users.lock_roles()
    return users


async def _found(users: UserRepository, user_id: str) -> User:
    user = await users.find(user_id)
    if user is None:
        raise UserNotFound
    return user


def _new_link(runtime: Runtime, lifetime: timedelta, *, page: str) -> OneTimeToken:
    """The token stands behind `#`, which browsers send to nobody: no proxy and no log ever sees it."""
    token, base = security.new_token(), runtime.settings.public_url
    return OneTimeToken(token, clock.now() + lifetime, f"{base.rstrip('/')}/{page}#{token}" if base else None)


async def _add_reset(session: Transaction, principal: Principal, user_id: str, link: OneTimeToken) -> None:
    await OneTimeRepository(session, principal).add_password_reset(
        user_id=user_id, token_hash=security.token_hash(link.token), expires_at=link.expires_at
    )


async def _require_rights(users: UserRepository, *roles: Role) -> None:
    """Raise BeyondOwnRights unless the caller has, at this moment, all the rights of these roles."""
    principal = users.principal
    if principal.collection_ids is not None:  # users are not restricted to collections as this key is
        raise BeyondOwnRights
    own: Role | None = principal.role
    if principal.kind is PrincipalKind.USER:
        own = await users.actor_role()
    if own not in (Role.ADMIN, Role.SUPERADMIN):
        raise BeyondOwnRights
    if Role.SUPERADMIN in roles and own is not Role.SUPERADMIN:
        raise BeyondOwnRights
    # An API key may have fewer scopes than an admin: it must not reach the others through an admin of its making.
    if set(roles) != {Role.USER} and principal.scopes != ALL_SCOPES:
        raise BeyondOwnRights


async def _require_others(users: UserRepository, user: User, *, role: Role, active: bool) -> None:
    """Raise LastSuperadmin or LastAdmin when the user, so changed, would leave none."""
    was_superadmin = user.is_active and user.role == Role.SUPERADMIN
    was_admin = user.is_active and user.role != Role.USER
    stays_superadmin, stays_admin = active and role is Role.SUPERADMIN, active and role is not Role.USER
    if was_superadmin and not stays_superadmin and not await users.count_other_superadmins(user.id):
        raise LastSuperadmin
    if was_admin and not stays_admin and not await users.count_other_admins(user.id):
        raise LastAdmin
