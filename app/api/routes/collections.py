"""Collections and their access lists."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api.deps import ManagePrincipal, ReadPrincipal, TransactionDep
from app.api.paging import Cursor, Limit, Offset, link_next
from app.api.schemas.base import OpaqueId
from app.api.schemas.collections import (
    AccessListRequest,
    ChangeCollectionRequest,
    CollectionResponse,
    CollectionUserResponse,
    CreateCollectionRequest,
    GrantRequest,
)
from app.core.access import Visibility
from app.core.chunking import Splitter
from app.services import collections

router = APIRouter(prefix="/collections", tags=["collections"])


@router.post("", status_code=201)
async def create_collection(
    body: CreateCollectionRequest, session: TransactionDep, principal: ManagePrincipal
) -> CollectionResponse:
    """Make a collection."""
    made = await collections.create(
        session,
        principal,
        name=body.name,
        description=body.description,
        visibility=body.visibility,
        chunking={
            "chunk_size_tokens": body.chunk_size_tokens,
            "chunk_overlap_tokens": body.chunk_overlap_tokens,
            "splitter": body.splitter,
        },
    )
    return _response(made)


@router.get("")
async def list_collections(
    request: Request,
    response: Response,
    session: TransactionDep,
    principal: ReadPrincipal,
    limit: Limit = 50,
    cursor: Cursor = None,
    offset: Offset = 0,
) -> list[CollectionResponse]:
    """The collections that the caller sees, newest first."""
    page, following = await collections.newest(session, principal, limit=limit, after=cursor, offset=offset)
    if following:
        link_next(request, response, cursor=following, offset=0)
    return [_response(filled) for filled in page]


@router.get("/{collection_id}")
async def get_collection(
    collection_id: OpaqueId, session: TransactionDep, principal: ReadPrincipal
) -> CollectionResponse:
    """One collection."""
    return _response(await collections.get(session, principal, collection_id))


@router.patch("/{collection_id}")
async def change_collection(
    collection_id: OpaqueId,
    body: ChangeCollectionRequest,
    session: TransactionDep,
    principal: ManagePrincipal,
) -> CollectionResponse:
    """Change name, description, visibility or how documents are chunked; what is left out stays."""
    changed = await collections.change(session, principal, collection_id, body.given)
    return _response(changed)


@router.delete("/{collection_id}", status_code=204)
async def delete_collection(
    collection_id: OpaqueId,
    session: TransactionDep,
    principal: ManagePrincipal,
    force: Annotated[bool, Query(description="Delete the documents in it too.")] = False,
) -> None:
    """Delete a collection. One with documents in it is a conflict unless `force` is given."""
    await collections.delete(session, principal, collection_id, force=force)


@router.get("/{collection_id}/users")
async def list_users(
    collection_id: OpaqueId,
    request: Request,
    response: Response,
    session: TransactionDep,
    principal: ManagePrincipal,
    limit: Limit = 50,
    offset: Offset = 0,
) -> list[CollectionUserResponse]:
    """The access list, newest first. It matters where the visibility is `restricted`, and for `write` everywhere."""
    page, more = await collections.users(session, principal, collection_id, limit=limit, offset=offset)
    if more:
        link_next(request, response, offset=offset + limit)
    return [CollectionUserResponse.model_validate(user) for user in page]


@router.put("/{collection_id}/users", status_code=204)
async def replace_users(
    collection_id: OpaqueId, body: AccessListRequest, session: TransactionDep, principal: ManagePrincipal
) -> None:
    """Make this the whole access list."""
    permissions = {user.user_id: user.permission for user in body.users}
    await collections.set_users(session, principal, collection_id, permissions)


@router.put("/{collection_id}/users/{user_id}", status_code=204)
async def grant_user(
    collection_id: OpaqueId,
    user_id: OpaqueId,
    body: GrantRequest,
    session: TransactionDep,
    principal: ManagePrincipal,
) -> None:
    """Put a user on the access list, or change what they may do there. Holds from their next request."""
    await collections.grant(session, principal, collection_id, user_id, body.permission)


@router.delete("/{collection_id}/users/{user_id}", status_code=204)
async def revoke_user(
    collection_id: OpaqueId, user_id: OpaqueId, session: TransactionDep, principal: ManagePrincipal
) -> None:
    """Take a user off the access list. Holds from their next request."""
    await collections.revoke(session, principal, collection_id, user_id)


def _response(filled: collections.Filled) -> CollectionResponse:
    collection, counts = filled.collection, filled.counts
    return CollectionResponse(
        id=collection.id,
        name=collection.name,
        description=collection.description,
        visibility=Visibility(collection.visibility),
        is_default=collection.is_default,
        owner_id=collection.owner_id,
        session_id=collection.session_id,
        created_by=collection.created_by,
        chunk_size_tokens=collection.chunk_size_tokens,
        chunk_overlap_tokens=collection.chunk_overlap_tokens,
        splitter=Splitter(collection.splitter),
        documents=counts.documents,
        chunks=counts.chunks,
        created_at=collection.created_at,
        updated_at=collection.updated_at,
    )
