"""Ask a question; read a conversation."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from app.api import quotas
from app.api.deps import AskingPrincipal, ChatPrincipal, RuntimeDep, TransactionDep
from app.api.paging import Limit, Offset, link_next
from app.api.schemas.base import OpaqueId
from app.api.schemas.chat import ChatRequest, ChatResponse, MessageResponse
from app.api.schemas.filters import search_filter
from app.api.streaming import ChatStream, answer_fields, open_stream, while_connected
from app.rag.llms import Turn
from app.services import chat
from app.services.answers import Question

router = APIRouter(prefix="/chat", tags=["chat"])

_STREAM_DOCS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; or, when a stream is asked for, server-sent events: `session`, `sources`, `delta`…,"
        " and exactly one `done` (the answer) or `error`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.post("", response_model=ChatResponse, responses={**_STREAM_DOCS, **quotas.RESPONSES})
async def ask(
    body: ChatRequest,
    request: Request,
    runtime: RuntimeDep,
    principal: AskingPrincipal,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> ChatResponse | Response:
    """Answer from the documents, with citations. `"stream": true` or `Accept: text/event-stream` streams."""
    stream = body.stream or "text/event-stream" in accept
    question = _question(body, stream=stream)
    if not stream:
        answer = await while_connected(request, chat.answer(runtime, principal, question))
        return ChatResponse(**answer_fields(answer))
    events = chat.converse(runtime, principal, question)
    return ChatStream(await while_connected(request, open_stream(events)), events, request.app.state.draining)


@router.get("/sessions/{session_id}/messages")
async def list_messages(
    session_id: OpaqueId,
    request: Request,
    response: Response,
    session: TransactionDep,
    principal: ChatPrincipal,
    limit: Limit = 50,
    offset: Offset = 0,
) -> list[MessageResponse]:
    """The messages of one of the caller's own sessions, in their order."""
    page, more = await chat.messages(session, principal, session_id, limit=limit, offset=offset)
    if more:
        link_next(request, response, offset=offset + limit)
    return [MessageResponse.model_validate(message) for message in page]


def _question(body: ChatRequest, *, stream: bool) -> Question:
    history = None
    if body.messages is not None:
        history = tuple(Turn(message.role, message.content) for message in body.messages[:-1])
    return Question(
        message=body.question,
        session_id=body.session_id,
        bot_id=body.bot_id,
        history=history,
        where=search_filter(body.filters, body.collection_ids),
        top_k=body.config.top_k,
        temperature=body.config.temperature,
        stream=stream,
    )
