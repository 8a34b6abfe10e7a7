"""Conversations shared by a link: made and revoked by their owner, opened by whoever has the link."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from app.api import quotas
from app.api.deps import ChatPrincipal, RuntimeDep, TransactionDep, address_within
from app.api.paging import Limit, Offset, link_next
from app.api.schemas.base import OpaqueId
from app.api.schemas.shares import CreatedShareResponse, CreateShareRequest, SharedResponse, ShareResponse
from app.api.shared_pages import PAGE_HEADERS, page
from app.core.rates import Activity
from app.services import shares

router = APIRouter(tags=["shares"])

_PRIVATE: dict[str, str] = {
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
}
_SHARED_DOCS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": SharedResponse,
        "description": "The conversation; to a browser (`Accept: text/html`) as a page.",
        "content": {"text/html": {"schema": {"type": "string"}}},
    },
    **quotas.RESPONSES,
}


@router.post("/chat/sessions/{session_id}/shares", status_code=201)
async def share_session(
    session_id: OpaqueId,
    body: CreateShareRequest,
    runtime: RuntimeDep,
    session: TransactionDep,
    principal: ChatPrincipal,
) -> CreatedShareResponse:
    """Make a link that shows this session as it is now to whoever has it, without an account.

    What is asked later is not in it. Sources are shown with title, page and snippet, and lead nowhere.
    """
    made = await shares.create(runtime, session, principal, session_id, body.expires_at)
    shown = ShareResponse.model_validate(made.share).model_dump()
    return CreatedShareResponse(**shown, token=made.token, url=made.url)


@router.get("/chat/sessions/{session_id}/shares")
async def list_shares(
    session_id: OpaqueId,
    request: Request,
    response: Response,
    session: TransactionDep,
    principal: ChatPrincipal,
    limit: Limit = 50,
    offset: Offset = 0,
) -> list[ShareResponse]:
    """The links to a session that still open, newest first."""
    found, more = await shares.newest(session, principal, session_id, limit=limit, offset=offset)
    if more:
        link_next(request, response, offset=offset + limit)
    return [ShareResponse.model_validate(share) for share in found]


@router.delete("/chat/sessions/{session_id}/shares", status_code=204)
async def revoke_shares(session_id: OpaqueId, session: TransactionDep, principal: ChatPrincipal) -> None:
    """Close all links to a session, at once."""
    await shares.revoke(session, principal, session_id, None)


@router.delete("/chat/sessions/{session_id}/shares/{share_id}", status_code=204)
async def revoke_share(
    session_id: OpaqueId, share_id: OpaqueId, session: TransactionDep, principal: ChatPrincipal
) -> None:
    """Close one link, at once."""
    await shares.revoke(session, principal, session_id, share_id)


@router.get(
    "/shared/{token}",
    response_model=SharedResponse,
    responses=_SHARED_DOCS,
    dependencies=[Depends(address_within(Activity.SHARED))],
)
async def open_shared(
    token: Annotated[str, Path(max_length=200)],
    runtime: RuntimeDep,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """A shared conversation, for whoever has the link."""
    shared = SharedResponse.model_validate(await shares.open_shared(runtime, token))
    if "text/html" in accept:
        return HTMLResponse(page(shared), headers={**_PRIVATE, **PAGE_HEADERS})
    return JSONResponse(shared.model_dump(mode="json"), headers=_PRIVATE)
