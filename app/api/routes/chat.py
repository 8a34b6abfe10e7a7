"""Ask a question; stop, take up again or repeat an answer; read a conversation."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response

from app.api import quotas
from app.api.deps import (
    AskingPrincipal,
    ChatPrincipal,
    RuntimeDep,
    TransactionDep,
    UnprovenAskingPrincipal,
)
from app.api.paging import Cursor, Limit, Offset, link_next
from app.api.questions import question_of
from app.api.schemas.base import OpaqueId
from app.api.schemas.chat import (
    BranchResponse,
    ChatRequest,
    ChatResponse,
    EditRequest,
    MessageResponse,
    RegenerateRequest,
)
from app.api.streaming import (
    OPENING_SECONDS,
    ChatStream,
    Prepared,
    answer_fields,
    parse_event_id,
    while_connected,
)
from app.core.principal import Principal
from app.services import auth, chat
from app.services.answers import Question
from app.services.runtime import Runtime

router = APIRouter(prefix="/chat", tags=["chat"])

_STREAM_DOCS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; or, when a stream is asked for, server-sent events: `session`, `sources`, `delta`…,"
        " and exactly one `done` (the answer) or `error`.",
        "content": {"text/event-stream": {}},
    }
}
_EVENTS_DOCS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The rest of the events, as `POST /chat` streams them.",
        "content": {"text/event-stream": {}},
    },
    204: {"description": "The event named was the last one."},
}
_RESPONSES = {**_STREAM_DOCS, **quotas.RESPONSES}

Accept = Annotated[str, Header(include_in_schema=False)]
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="The id of the last event that arrived before the connection broke: the answer goes on after it.",
    ),
]


@router.post("", response_model=ChatResponse, responses=_RESPONSES)
async def ask(
    body: ChatRequest,
    request: Request,
    runtime: RuntimeDep,
    principal: UnprovenAskingPrincipal,
    accept: Accept = "",
    last_event_id: LastEventId = None,
) -> ChatResponse | Response:
    """Answer from the documents, with citations. `"stream": true` or `Accept: text/event-stream` streams.

    The same request with `Last-Event-ID` asks nothing again: it goes on with the stream that broke.
    """
    stream = body.stream or "text/event-stream" in accept
    if stream and last_event_id:
        principal = await auth.prove(runtime, principal)
        return await _resumed(runtime, principal, *parse_event_id(last_event_id), asked=body.question)
    return await _answered(request, runtime, principal, question_of(body, stream=stream))


@router.post("/messages/{message_id}/regenerate", response_model=ChatResponse, responses=_RESPONSES)
async def regenerate(
    message_id: OpaqueId,
    body: RegenerateRequest,
    request: Request,
    runtime: RuntimeDep,
    principal: AskingPrincipal,
    accept: Accept = "",
) -> ChatResponse | Response:
    """Answer the same question again. The answer named is kept beside the new one, with all that followed it."""
    stream = body.stream or "text/event-stream" in accept
    question = question_of(body, stream=stream, regenerates=message_id)
    return await _answered(request, runtime, principal, question)


@router.post("/messages/{message_id}/edit", response_model=ChatResponse, responses=_RESPONSES)
async def edit(
    message_id: OpaqueId,
    body: EditRequest,
    request: Request,
    runtime: RuntimeDep,
    principal: AskingPrincipal,
    accept: Accept = "",
) -> ChatResponse | Response:
    """Ask otherwise. The question named is kept beside the new one, with all that followed it."""
    stream = body.stream or "text/event-stream" in accept
    question = question_of(body, stream=stream, edits=message_id)
    return await _answered(request, runtime, principal, question)


@router.post("/messages/{message_id}/stop")
async def stop(message_id: OpaqueId, runtime: RuntimeDep, principal: ChatPrincipal) -> ChatResponse:
    """Have an answer end as it is (`finish_reason` is then `stopped`). One that has ended stays as it was."""
    return ChatResponse(**answer_fields(await chat.stop(runtime, principal, message_id)))


@router.post("/messages/{message_id}/select")
async def select(message_id: OpaqueId, runtime: RuntimeDep, principal: ChatPrincipal) -> BranchResponse:
    """Go on with the branch of the conversation that this message is of."""
    return BranchResponse(session_id=await chat.show_branch(runtime, principal, message_id))


@router.get("/messages/{message_id}/events", response_model=None, responses=_EVENTS_DOCS)
async def events(
    message_id: OpaqueId,
    runtime: RuntimeDep,
    principal: ChatPrincipal,
    last_event_id: LastEventId = None,
    after: Annotated[
        int,
        Query(ge=0, le=999_999_999, description="The number in that id, for who can't set header fields."),
    ] = 0,
) -> Response:
    """The events of an answer from the one after `Last-Event-ID` on, wherever it is being given, or from the first one."""
    if last_event_id:
        named, number = parse_event_id(last_event_id)
        if named == message_id:
            after = number
    return await _resumed(runtime, principal, message_id, after)


@router.get("/sessions/{session_id}/messages")
async def list_messages(
    session_id: OpaqueId,
    request: Request,
    response: Response,
    session: TransactionDep,
    principal: ChatPrincipal,
    limit: Limit = 50,
    cursor: Cursor = None,
    offset: Offset = 0,
    branches: Annotated[
        Literal["active", "all"], Query(description="`all` shows what was regenerated or edited away, too.")
    ] = "active",
) -> list[MessageResponse]:
    """The messages of one of the caller's own sessions, in their order."""
    page, following = await chat.messages(
        session,
        principal,
        session_id,
        limit=limit,
        offset=offset,
        after=cursor,
        all_branches=branches == "all",
    )
    if following:
        link_next(request, response, cursor=following, offset=0)
    return [MessageResponse.of(shown.message, shown.sibling_ids) for shown in page]


async def _answered(
    request: Request, runtime: Runtime, principal: Principal, question: Question
) -> ChatResponse | Response:
    turn = chat.begin(runtime, principal, question)
    if not question.stream:
        return ChatResponse(**answer_fields(await while_connected(request, turn.whole())))
    prepared = Prepared()
    await while_connected(request, chat.opened(turn, seconds=OPENING_SECONDS, meanwhile=prepared.add))
    turn.linger(runtime.settings.chat_resume_seconds)
    return ChatStream(turn.message_id, turn.follow(), prepared)


async def _resumed(
    runtime: Runtime, principal: Principal, message_id: str, after: int, *, asked: str | None = None
) -> Response:
    resumed = await chat.resume(runtime, principal, message_id, after=after, asked=asked)
    if resumed.is_read:
        return Response(status_code=204)  # which is how a browser is told not to come back
    return ChatStream(message_id, resumed.following)
