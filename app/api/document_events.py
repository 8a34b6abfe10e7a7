"""The states of a document as server-sent events. Every stream ends with `completed`, `failed`, `deleted` or `error`."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog
from fastapi import Response
from fastapi.sse import EventSourceResponse, format_sse_event

from app.api.errors import body_of, error_body
from app.api.schemas.base import ErrorDetail
from app.api.schemas.chat import ErrorEvent
from app.api.schemas.documents import DocumentEvent, DocumentResponse
from app.api.streaming import with_pings
from app.core.errors import AppError
from app.db.models import Document
from app.services.progress import Deleted

log = structlog.get_logger(__name__)

States = AsyncGenerator[Document | Deleted, None]


async def document_stream(states: States) -> Response:
    """The response, once the first state is known: until then a failure has its own status. 204 when there is none."""
    try:
        first = await anext(states)
    except StopAsyncIteration:
        return Response(status_code=204)  # which is how a browser is told not to come back
    return EventSourceResponse(
        with_pings(_frames(first, states)), headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    )


async def _frames(first: Document | Deleted, rest: States) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        try:
            yield _frame(first)
            async for state in rest:
                yield _frame(state)
        except AppError as error:
            yield _failure(ErrorDetail(**body_of(error)["error"]))
        except Exception as error:  # the status is sent already: the stream itself must say that it failed
            log.error("stream_failed", exc_info=error)
            body = error_body("internal_error", "Something went wrong on the server; it has been logged.")
            yield _failure(ErrorDetail(**body["error"]))


def _frame(state: Document | Deleted) -> bytes:
    if isinstance(state, Deleted):
        event = document_event(state)
        return format_sse_event(data_str=event.model_dump_json(), event=event.type)
    event = document_event(state)
    return format_sse_event(data_str=event.model_dump_json(), event=event.type, id=str(state.revision))


def document_event(state: Document | Deleted) -> DocumentEvent:
    """The state as the client sees it."""
    if isinstance(state, Deleted):
        return DocumentEvent(type="deleted", document_id=state.document_id)
    shown = DocumentResponse.model_validate(state)
    return DocumentEvent(
        type=shown.status if shown.status in ("completed", "failed") else "progress",
        document_id=shown.id,
        status=shown.status,
        stage=shown.stage,
        progress=shown.progress,
        attempts=shown.attempts,
        error=shown.error,
        pages=shown.pages,
        chunks=shown.chunks,
    )


def _failure(error: ErrorDetail) -> bytes:
    event = ErrorEvent(error=error)
    return format_sse_event(data_str=event.model_dump_json(), event=event.type)
