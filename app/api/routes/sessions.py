"""Conversations of the caller's own: list and search them, read, rename, pin, export and delete them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from app.api import quotas
from app.api.attachments import saved_as
from app.api.deps import ChatPrincipal, IdempotencyKey, RuntimeDep, TransactionDep, UploadingPrincipal
from app.api.paging import Cursor, Limit, Offset, link_next
from app.api.schemas.base import OpaqueId
from app.api.schemas.chat import Feedback
from app.api.schemas.sessions import (
    ChangeSessionRequest,
    FeedbackRequest,
    ListedSessionResponse,
    SessionDetailsResponse,
    SessionUploadFields,
    SessionUploadResponse,
)
from app.api.session_exports import MEDIA_TYPES, written
from app.api.session_uploads import receive_session_uploads
from app.api.uploads import upload_schema
from app.core.text import clean
from app.services import session_exports, sessions
from app.services.sessions import Rating

router = APIRouter(prefix="/chat", tags=["sessions"])

_EXPORT_DOCS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The conversation as a file.",
        "content": {
            "text/markdown": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}


@router.get("/sessions")
async def list_sessions(
    request: Request,
    response: Response,
    session: TransactionDep,
    principal: ChatPrincipal,
    q: Annotated[
        str | None,
        Query(
            max_length=200,
            description="Words that must all stand in the title or in one message, in any script.",
        ),
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    offset: Offset = 0,
) -> list[ListedSessionResponse]:
    """The caller's own sessions: pinned ones first, then the last active ones.

    A search looks through the sessions in this order for a second at most; where it got no further, the page is short or
    empty, and its `Link` goes on from there.
    """
    page = await sessions.search(session, principal, clean(q or ""), limit=limit, after=cursor, offset=offset)
    if page.after is not None:
        link_next(request, response, cursor=page.after, offset=page.offset)
    return [ListedSessionResponse.model_validate(listed) for listed in page.sessions]


@router.get("/sessions/{session_id}")
async def get_session(
    session_id: OpaqueId, session: TransactionDep, principal: ChatPrincipal
) -> SessionDetailsResponse:
    """One of the caller's own sessions."""
    return SessionDetailsResponse.model_validate(await sessions.get(session, principal, session_id))


@router.patch("/sessions/{session_id}")
async def change_session(
    session_id: OpaqueId, body: ChangeSessionRequest, session: TransactionDep, principal: ChatPrincipal
) -> SessionDetailsResponse:
    """Rename or pin a session; what is left out stays."""
    changed = await sessions.change(session, principal, session_id, title=body.title, pinned=body.pinned)
    return SessionDetailsResponse.model_validate(changed)


@router.delete("/sessions/{session_id}", status_code=204)
async def delete_session(session_id: OpaqueId, runtime: RuntimeDep, principal: ChatPrincipal) -> None:
    """Delete a session with its messages, its links and its files, also while it is being answered."""
    await sessions.delete(runtime, principal, session_id)


@router.get("/sessions/{session_id}/export", response_class=StreamingResponse, responses=_EXPORT_DOCS)
async def export_session(
    session_id: OpaqueId,
    runtime: RuntimeDep,
    principal: ChatPrincipal,
    format_: Annotated[Literal["markdown", "json"], Query(alias="format")] = "markdown",
) -> StreamingResponse:
    """The conversation as a file: Markdown with its citations as footnotes, or JSON with all there is."""
    export = await session_exports.begin(runtime, principal, session_id)
    ending = "md" if format_ == "markdown" else "json"
    return StreamingResponse(
        written(export, format_),
        headers=saved_as(f"{export.session.title}.{ending}"),
        media_type=MEDIA_TYPES[format_],
    )


@router.post(
    "/upload",
    status_code=202,
    response_model=SessionUploadResponse,
    responses={
        **quotas.RESPONSES,
        200: {"model": SessionUploadResponse, "description": "All of them were there already."},
    },
    openapi_extra=upload_schema(SessionUploadFields),
)
async def upload_into_session(
    request: Request,
    runtime: RuntimeDep,
    principal: UploadingPrincipal,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """Put files into a conversation. They belong to it alone: only its answers use them, beside the bot's collections, and
    they are deleted with it. `GET /documents/{id}/events` and the stream of an answer tell how far they are."""
    return await receive_session_uploads(request, runtime, principal, idempotency_key)


@router.put("/messages/{message_id}/feedback")
async def give_feedback(
    message_id: OpaqueId, body: FeedbackRequest, session: TransactionDep, principal: ChatPrincipal
) -> Feedback:
    """Say what you think of an answer in a session of yours; another time replaces it."""
    given = await sessions.judge(session, principal, message_id, Rating(body.rating), body.comment)
    return Feedback.model_validate(given)


@router.delete("/messages/{message_id}/feedback", status_code=204)
async def take_feedback_back(message_id: OpaqueId, session: TransactionDep, principal: ChatPrincipal) -> None:
    """Take back what you said of an answer."""
    await sessions.judge(session, principal, message_id, None, None)
