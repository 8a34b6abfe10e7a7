"""Organizations: all of them for a superadmin, their own for an admin."""

from fastapi import APIRouter, Request, Response

from app.api.deps import ManagePrincipal, RuntimeDep
from app.api.paging import Cursor, Limit, Offset, link_next
from app.api.schemas.base import OpaqueId
from app.api.schemas.organizations import OrganizationResponse, OrganizationWrite
from app.services import organizations

router = APIRouter(prefix="/organizations", tags=["organizations"])


@router.get("")
async def list_organizations(
    request: Request,
    response: Response,
    runtime: RuntimeDep,
    principal: ManagePrincipal,
    limit: Limit = 50,
    cursor: Cursor = None,
    offset: Offset = 0,
) -> list[OrganizationResponse]:
    """Organizations, newest first: for a superadmin all, for an admin the own one."""
    page, following = await organizations.newest(runtime, principal, limit=limit, after=cursor, offset=offset)
    if following:
        link_next(request, response, cursor=following, offset=0)
    return [OrganizationResponse.model_validate(organization) for organization in page]


@router.post("", status_code=201)
async def create_organization(
    body: OrganizationWrite, runtime: RuntimeDep, principal: ManagePrincipal
) -> OrganizationResponse:
    """Make an organization (superadmin). Its first admin is made by POST /users with `X-Organization-ID`."""
    return OrganizationResponse.model_validate(await organizations.create(runtime, principal, name=body.name))


@router.get("/{organization_id}")
async def get_organization(
    organization_id: OpaqueId, runtime: RuntimeDep, principal: ManagePrincipal
) -> OrganizationResponse:
    """One organization."""
    return OrganizationResponse.model_validate(await organizations.get(runtime, principal, organization_id))


@router.patch("/{organization_id}")
async def rename_organization(
    organization_id: OpaqueId, body: OrganizationWrite, runtime: RuntimeDep, principal: ManagePrincipal
) -> OrganizationResponse:
    """Rename an organization."""
    return OrganizationResponse.model_validate(
        await organizations.rename(runtime, principal, organization_id, name=body.name)
    )


@router.delete("/{organization_id}", status_code=204)
async def delete_organization(
    organization_id: OpaqueId, runtime: RuntimeDep, principal: ManagePrincipal
) -> None:
    """Delete an organization with its users, keys, documents and conversations (superadmin)."""
    await organizations.delete(runtime, principal, organization_id)
