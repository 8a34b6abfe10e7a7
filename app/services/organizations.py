"""Organizations: a superadmin makes, renames and deletes them; an admin sees and renames their own."""

from collections.abc import Sequence

from app.core import cursor
from app.core.errors import OrganizationHasSuperadmins, OrganizationNotFound
from app.core.principal import SYSTEM, Principal, Role
from app.db.engine import Transaction
from app.db.models import Organization
from app.db.repositories.identity import IdentityRepository
from app.db.repositories.organizations import OrganizationRepository
from app.db.repositories.users import UserRepository
from app.services import auth
from app.services.runtime import Runtime


async def newest(
    runtime: Runtime, principal: Principal, *, limit: int, after: str | None, offset: int
) -> tuple[Sequence[Organization], str | None]:
    """A page of what the caller may see, newest first, and the cursor of the next one. Raises InvalidCursor."""
    position = cursor.decode(after) if after else None
    async with runtime.database.unit_of_work(SYSTEM) as session:
        organizations = OrganizationRepository(session)
        if principal.role is not Role.SUPERADMIN:
            own = await organizations.find(principal.organization)
            return ([own] if own and not after and not offset else []), None
        rows = await organizations.newest(limit=limit + 1, after=position, offset=offset)
    following = cursor.encode(rows[limit - 1].created_at, rows[limit - 1].id) if len(rows) > limit else None
    return rows[:limit], following


async def get(runtime: Runtime, principal: Principal, organization_id: str) -> Organization:
    """An organization that the caller may see. Raises OrganizationNotFound."""
    _require_sight(principal, organization_id)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        return await _found(session, organization_id)


async def create(runtime: Runtime, principal: Principal, *, name: str) -> Organization:
    """A new organization with its default collection. Raises SuperadminRequired."""
    auth.require_superadmin(principal)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        organization_id = await IdentityRepository(session).add_organization(name)
        return await _found(session, organization_id)


async def rename(runtime: Runtime, principal: Principal, organization_id: str, *, name: str) -> Organization:
    """Raises OrganizationNotFound."""
    _require_sight(principal, organization_id)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        organization = await OrganizationRepository(session).rename(organization_id, name)
        if organization is None:
            raise OrganizationNotFound
        return organization


async def delete(runtime: Runtime, principal: Principal, organization_id: str) -> None:
    """Delete an organization and everything in it: users, keys, documents, conversations.

    Raises SuperadminRequired, OrganizationNotFound or OrganizationHasSuperadmins.
    """
    _require_sight(principal, organization_id)
    auth.require_superadmin(principal)
    async with runtime.database.unit_of_work(SYSTEM) as session:
        await UserRepository(session, principal).lock_roles()  # nobody becomes a superadmin there meanwhile
        organizations = OrganizationRepository(session)
        await _found(session, organization_id)
        if await organizations.has_superadmins(organization_id):
            raise OrganizationHasSuperadmins
        await organizations.delete(organization_id)


def _require_sight(principal: Principal, organization_id: str) -> None:
    if principal.role is not Role.SUPERADMIN and organization_id != principal.organization:
        raise OrganizationNotFound


async def _found(session: Transaction, organization_id: str) -> Organization:
    organization = await OrganizationRepository(session).find(organization_id)
    if organization is None:
        raise OrganizationNotFound
    return organization
