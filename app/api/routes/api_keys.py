"""API keys of the organization."""

from fastapi import APIRouter, Request, Response

from app.api.deps import ManagePrincipal, RuntimeDep
from app.api.paging import Cursor, Limit, Offset, link_next
from app.api.schemas.api_keys import ApiKeyCreate, ApiKeyResponse, CreatedApiKeyResponse
from app.api.schemas.base import OpaqueId
from app.services import api_keys

router = APIRouter(prefix="/api-keys", tags=["api-keys"])


@router.get("")
async def list_api_keys(
    request: Request,
    response: Response,
    runtime: RuntimeDep,
    principal: ManagePrincipal,
    limit: Limit = 50,
    cursor: Cursor = None,
    offset: Offset = 0,
) -> list[ApiKeyResponse]:
    """The organization's keys, revoked and expired ones too, newest first."""
    page, following = await api_keys.newest(runtime, principal, limit=limit, after=cursor, offset=offset)
    if following:
        link_next(request, response, cursor=following, offset=0)
    return [ApiKeyResponse.model_validate(key) for key in page]


@router.post("", status_code=201)
async def create_api_key(
    body: ApiKeyCreate, response: Response, runtime: RuntimeDep, principal: ManagePrincipal
) -> CreatedApiKeyResponse:
    """Make a key. It is shown in this answer and never again."""
    made = await api_keys.create(
        runtime,
        principal,
        api_keys.NewKey(
            name=body.name,
            scopes=frozenset(body.scopes),
            collection_ids=None if body.collection_ids is None else frozenset(body.collection_ids),
            expires_at=body.expires_at,
            rate_limit=body.rate_limit,
            bot_id=body.bot_id,
        ),
    )
    response.headers["Cache-Control"] = "no-store"
    return CreatedApiKeyResponse(**ApiKeyResponse.model_validate(made.row).model_dump(), key=made.secret)


@router.get("/{key_id}")
async def get_api_key(key_id: OpaqueId, runtime: RuntimeDep, principal: ManagePrincipal) -> ApiKeyResponse:
    """One key, without its secret."""
    return ApiKeyResponse.model_validate(await api_keys.get(runtime, principal, key_id))


@router.delete("/{key_id}", status_code=204)
async def revoke_api_key(key_id: OpaqueId, runtime: RuntimeDep, principal: ManagePrincipal) -> None:
    """Revoke a key. It stays in the list."""
    await api_keys.revoke(runtime, principal, key_id)
