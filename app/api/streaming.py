"""Chat events as server-sent events.

Every stream ends with exactly one `done` or `error`. An event's id is its answer's and its number, so that a client that
was cut off comes back with `Last-Event-ID`. A comment every 15 s keeps proxies from closing a silent stream.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, Final, TypeVar

import anyio
import structlog
from asgi_correlation_id import correlation_id
from fastapi import Request
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.requests import ClientDisconnect

from app.api.draining import Draining
from app.api.errors import body_of, error_body
from app.api.schemas import chat as schemas
from app.api.schemas.base import ErrorDetail, ResponseModel
from app.api.schemas.documents import DocumentEvent
from app.core.errors import AppError, InvalidEventId, ServiceStopping
from app.core.usage import in_dollars
from app.services import answers
from app.services.answers import ChatEvent, TurnFailed
from app.services.live import SOURCES, Following, LiveTurn, Numbered

log = structlog.get_logger(__name__)

OPENING_SECONDS: Final = 5.0
"""So long a stream waits for its first text, so that a failure until then has its own status."""
_PING_SECONDS: Final = 15.0
_COMEBACK_SECONDS: Final = 5.0
_EVENT_ID: Final = re.compile(r"([A-Za-z0-9_-]{1,64}):(\d{1,9})")

T = TypeVar("T")


class Prepared:
    """The sources as a stream sends them, made while the provider's first text is waited for: nobody has to wait for it then."""

    def __init__(self) -> None:
        self._sources: bytes | None = None

    def add(self, turn: LiveTurn) -> None:
        """Make them, once the turn has them."""
        if turn.sources is not None and self._sources is None:
            self._sources = _frame(turn.sources, event_id(turn.message_id, SOURCES))

    def take(self, numbered: Numbered) -> bytes | None:
        """The frame of an event, if it is made."""
        return self._sources if isinstance(numbered.event, answers.SourcesFound) else None


class ChatStream(EventSourceResponse):
    """Sends the events of an answer as they come."""

    def __init__(self, message_id: str, following: Following, prepared: Prepared | None = None) -> None:
        super().__init__(
            _frames(message_id, following, prepared or Prepared()),
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )


def event_id(message_id: str, number: int) -> str:
    return f"{message_id}:{number}"


def parse_event_id(text: str) -> tuple[str, int]:
    """The answer and the number of an event that a client saw last. Raises InvalidEventId."""
    match = _EVENT_ID.fullmatch(text.strip())
    if match is None:
        raise InvalidEventId
    return match[1], int(match[2])


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work; when the client goes away first, or the process stops, the work is cancelled.

    Raises ClientDisconnect or ServiceStopping then.
    """
    draining: Draining = request.app.state.draining
    with draining.work() as under_way:
        working = asyncio.ensure_future(work)
        under_way.awaited = working
        leaving = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
            if working.cancelled() and under_way.is_stopped:
                raise ServiceStopping(retry_after_seconds=_COMEBACK_SECONDS)
            if working.done():
                return working.result()
            raise ClientDisconnect
        finally:
            leaving.cancel()  # it has nothing to clean up
            await _cancel(working)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _cancel(task: "asyncio.Future[Any]") -> None:
    """Cancel, and wait until it has cleaned up behind itself, also where the waiting task is being cancelled too."""
    if not task.done():
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])


def event_model(event: ChatEvent | TurnFailed) -> ResponseModel:
    """The event as the client sees it."""
    match event:
        case answers.AnswerDelta():
            return schemas.DeltaEvent(delta=event.delta)
        case answers.TurnStarted():
            return schemas.SessionEvent(session_id=event.session_id, message_id=event.message_id)
        case answers.DocumentProgress():
            return schemas.DocumentProgressEvent(document=progress_event(event))
        case answers.SourcesFound():
            return schemas.SourcesEvent(
                sources=[schemas.Source.model_validate(source) for source in event.sources]
            )
        case answers.AnswerDone():
            return schemas.DoneEvent(**answer_fields(event.answer))
        case TurnFailed():
            return schemas.ErrorEvent(error=failure_detail(event))


def failure_detail(failure: TurnFailed) -> ErrorDetail:
    return ErrorDetail(
        code=failure.code,
        message=failure.message,
        details=failure.details,
        request_id=correlation_id.get() or "",
    )


def progress_event(progress: answers.DocumentProgress) -> DocumentEvent:
    """As the events of a document itself tell it."""
    return DocumentEvent.model_validate(
        {
            "type": progress.status if progress.status in ("completed", "failed") else "progress",
            "document_id": progress.document_id,
            "status": progress.status,
            "stage": progress.stage,
            "progress": progress.progress,
            "error": progress.error,
            "chunks": progress.chunks,
        }
    )


def answer_fields(answer: answers.Answer) -> dict[str, Any]:
    """The fields of the answer object, for JSON and for the `done` event alike."""
    cost = answer.usage.cost_usd
    return {
        "session_id": answer.session_id,
        "message_id": answer.message_id,
        "answer": answer.answer,
        "sources": [schemas.Source.model_validate(source) for source in answer.sources],
        "refused": answer.refused,
        "usage": schemas.Usage(
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
            cost_usd=None if cost is None else in_dollars(cost),
            estimated=answer.usage.estimated,
        ),
        "model": answer.model,
        "finish_reason": answer.finish_reason,
        "fallback": answer.fallback is not None,
        "fallback_reason": answer.fallback,
        "degraded": answer.degraded,
        "pending_documents": [
            schemas.PendingDocument.model_validate(document) for document in answer.pending_documents
        ],
    }


async def _frames(message_id: str, following: Following, prepared: Prepared) -> AsyncGenerator[bytes, None]:
    async with aclosing(following):
        try:
            async for numbered in following:
                if numbered is None:
                    yield KEEPALIVE_COMMENT
                    continue
                yield prepared.take(numbered) or _frame(numbered.event, event_id(message_id, numbered.number))
        except AppError as error:  # of following, not of the answer: the client may come back for the rest
            yield _failure(ErrorDetail(**body_of(error)["error"]))
        except Exception as error:  # the status is sent already: the stream itself must say that it failed
            log.error("stream_failed", exc_info=error)
            body = error_body("internal_error", "Something went wrong on the server; it has been logged.")
            yield _failure(ErrorDetail(**body["error"]))


def _frame(event: ChatEvent | TurnFailed, id_: str) -> bytes:
    if isinstance(
        event, answers.AnswerDelta
    ):  # once a token: a third of what the model and the formatter take
        text = json.dumps(event.delta, ensure_ascii=False)
        return f'event: delta\ndata: {{"type":"delta","delta":{text}}}\nid: {id_}\n\n'.encode()
    model: Any = event_model(event)
    return format_sse_event(data_str=model.model_dump_json(), event=model.type, id=id_)


def _failure(detail: ErrorDetail) -> bytes:
    model = schemas.ErrorEvent(error=detail)
    return format_sse_event(data_str=model.model_dump_json(), event=model.type)


async def with_pings(
    frames: AsyncGenerator[bytes, None], seconds: float = _PING_SECONDS
) -> AsyncGenerator[bytes, None]:
    """The frames, and a comment whenever none came for `seconds`."""
    upcoming: asyncio.Future[bytes] | None = None
    async with aclosing(frames):
        try:
            while True:
                upcoming = asyncio.ensure_future(anext(frames))
                while not (await asyncio.wait([upcoming], timeout=seconds))[0]:
                    yield KEEPALIVE_COMMENT
                try:
                    frame = upcoming.result()
                except StopAsyncIteration:
                    return
                yield frame
        finally:
            if upcoming is not None:
                await _cancel(upcoming)
