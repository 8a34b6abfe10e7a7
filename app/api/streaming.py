"""Chat events as server-sent events.

Every stream ends with exactly one `done` or `error`. A comment every 15 s keeps proxies from closing a silent one.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import anyio
import structlog
from fastapi import Request
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.requests import ClientDisconnect

from app.api.draining import Draining, Work
from app.api.errors import body_of, error_body
from app.api.schemas import chat as schemas
from app.api.schemas.base import ErrorDetail, ResponseModel
from app.core.errors import AppError, ServiceStopping
from app.services import answers
from app.services.answers import ChatEvent

log = structlog.get_logger(__name__)

_PING_SECONDS: Final = 15.0
_OPENING_SECONDS: Final = 5.0
_COMEBACK_SECONDS: Final = 5.0

T = TypeVar("T")


class ChatStream(EventSourceResponse):
    """Sends the events of one turn; when the client goes, the turn is cancelled and its provider's stream closed."""

    def __init__(
        self, opening: "Opening", events: AsyncGenerator[ChatEvent, None], draining: Draining
    ) -> None:
        super().__init__(
            _ended_by_stop(_frames(opening, events), draining),
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )


@dataclass(frozen=True, slots=True)
class Opening:
    """The first events of a turn, and the next one where it was still awaited."""

    events: list[ChatEvent]
    awaited: "asyncio.Future[ChatEvent] | None"


async def open_stream(events: AsyncGenerator[ChatEvent, None]) -> Opening:
    """Wait for the first piece of the answer before the status is sent, so that a failure until then has its own.

    A slow model does not keep the client from its sources: after five seconds the stream begins without it.
    """
    seen: list[ChatEvent] = []
    deadline = asyncio.get_running_loop().time() + _OPENING_SECONDS
    while not (seen and isinstance(seen[-1], answers.AnswerDelta | answers.AnswerDone)):
        upcoming: asyncio.Future[ChatEvent] = asyncio.ensure_future(anext(events))
        try:
            done, _ = await asyncio.wait([upcoming], timeout=deadline - asyncio.get_running_loop().time())
        except asyncio.CancelledError:
            await _cancel(upcoming)
            raise
        if not done:
            return Opening(seen, upcoming)
        seen.append(upcoming.result())
    return Opening(seen, None)


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
            await _cancel(leaving)
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


def event_model(event: ChatEvent) -> ResponseModel:
    """The event as the client sees it."""
    match event:
        case answers.TurnStarted():
            return schemas.SessionEvent(session_id=event.session_id, message_id=event.message_id)
        case answers.SourcesFound():
            return schemas.SourcesEvent(
                sources=[schemas.Source.model_validate(source) for source in event.sources]
            )
        case answers.AnswerDelta():
            return schemas.DeltaEvent(delta=event.delta)
        case answers.AnswerDone():
            return schemas.DoneEvent(**answer_fields(event.answer))


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
            cost_usd=None if cost is None else str(cost),
            estimated=answer.usage.estimated,
        ),
        "model": answer.model,
        "finish_reason": answer.finish_reason,
    }


async def _frames(opening: Opening, rest: AsyncGenerator[ChatEvent, None]) -> AsyncGenerator[bytes, None]:
    number = 0

    def frame(model: Any) -> bytes:
        nonlocal number
        number += 1
        return format_sse_event(data_str=model.model_dump_json(), event=model.type, id=str(number))

    async with aclosing(rest):
        try:
            for event in opening.events:
                yield frame(event_model(event))
            if opening.awaited is not None:
                yield frame(event_model(await opening.awaited))
            async for event in rest:
                yield frame(event_model(event))
        except AppError as error:
            yield frame(schemas.ErrorEvent(error=ErrorDetail(**body_of(error)["error"])))
        except Exception as error:  # the status is sent already: the stream itself must say that it failed
            log.error("stream_failed", exc_info=error)
            body = error_body("internal_error", "Something went wrong on the server; it has been logged.")
            yield frame(schemas.ErrorEvent(error=ErrorDetail(**body["error"])))


async def _ended_by_stop(
    frames: AsyncGenerator[bytes, None], draining: Draining
) -> AsyncGenerator[bytes, None]:
    """The frames with pings; when the process stops before they end, the last one is an `error`."""
    number = 0
    with draining.work() as under_way:
        try:
            async with aclosing(with_pings(frames, under_way=under_way)) as pinged:
                async for frame in pinged:
                    number += frame is not KEEPALIVE_COMMENT
                    yield frame
        except asyncio.CancelledError:
            if not under_way.is_stopped:
                raise
            error = ErrorDetail(**body_of(ServiceStopping())["error"])
            model = schemas.ErrorEvent(error=error)
            yield format_sse_event(data_str=model.model_dump_json(), event=model.type, id=str(number + 1))


async def with_pings(
    frames: AsyncGenerator[bytes, None], seconds: float = _PING_SECONDS, *, under_way: Work | None = None
) -> AsyncGenerator[bytes, None]:
    """The frames, and a comment whenever none came for `seconds`."""
    upcoming: asyncio.Future[bytes] | None = None
    under_way = under_way or Work()
    async with aclosing(frames):
        try:
            while True:
                upcoming = under_way.awaited = asyncio.ensure_future(anext(frames))
                if under_way.is_stopped:  # while the frame before was being sent
                    upcoming.cancel()
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
