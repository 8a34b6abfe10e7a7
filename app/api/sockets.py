"""One WebSocket connection: what comes is read within limits, what goes waits for who reads it, and the end is in order."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, Protocol

import structlog
from fastapi import WebSocket
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect

from app.api.draining import Draining
from app.api.errors import body_of, error_body
from app.api.schemas import sockets as schemas
from app.api.schemas.base import ErrorDetail
from app.core.errors import AppError, InvalidMessage, RateLimited, ServiceStopping, TooManyAnswers

log = structlog.get_logger(__name__)

NORMAL: Final = 1000
POLICY: Final = 1008
RESTARTING: Final = 1012
MOST_TASKS: Final = 16
"""Answers and documents that one connection follows at once."""

_SEND_SECONDS: Final = 30.0
_MESSAGES_PER_SECOND: Final = 20.0
_MESSAGES_AT_ONCE: Final = 60.0
_COMEBACK_SECONDS: Final = 5.0
_MOST_PROBLEMS: Final = 5


class Dispatch(Protocol):
    async def __call__(self, connection: "Connection", message: schemas.ClientMessage) -> None:
        """Do what a message says; what takes long by `connection.start`. Raises AppError."""


class _SlowReader(Exception):
    """The client does not read what it is sent."""


class Connection:
    """One accepted connection."""

    def __init__(self, socket: WebSocket, draining: Draining, dispatch: Dispatch) -> None:
        self._socket = socket
        self._draining = draining
        self._dispatch = dispatch
        self._sending = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._allowance = _MESSAGES_AT_ONCE
        self._counted_at = asyncio.get_running_loop().time()

    async def serve(self) -> None:
        """Until the client goes, breaks a limit, or the service stops and all answers have ended."""
        forget = self._draining.tell(self._told_to_stop)
        reader = asyncio.create_task(self._guarded(self._read(), None))
        try:
            self._end_if_idle()
            code, reason = await self._closing
        finally:
            forget()
            await _cancel({reader, *self._tasks})
        try:
            if code == RESTARTING:
                await self.fail(ServiceStopping(retry_after_seconds=_COMEBACK_SECONDS))
            if code != NORMAL:
                await self._socket.close(code, reason)
        except (WebSocketDisconnect, _SlowReader, RuntimeError):
            return

    def start(self, work: Coroutine[Any, Any, None], ref: str | None) -> None:
        """Work beside the reading, for as long as the connection lasts. Raises TooManyAnswers and ServiceStopping."""
        try:
            self.require_room()
        except AppError:
            work.close()
            raise
        task = asyncio.create_task(self._guarded(work, ref))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def require_room(self) -> None:
        """Raises TooManyAnswers and ServiceStopping."""
        if self._draining.is_begun:
            raise ServiceStopping(retry_after_seconds=_COMEBACK_SECONDS)
        if len(self._tasks) >= MOST_TASKS:
            raise TooManyAnswers(details={"limit": MOST_TASKS})

    async def send(self, message: Any) -> None:
        """Waits for a client that reads slowly; one that does not read at all loses the connection."""
        text = schemas.as_text(message)
        try:
            async with asyncio.timeout(_SEND_SECONDS), self._sending:
                await self._socket.send_text(text)
        except TimeoutError as error:
            raise _SlowReader from error

    async def fail(self, error: AppError, *, ref: str | None = None) -> None:
        await self.send(schemas.SocketError(error=ErrorDetail(**body_of(error)["error"]), ref=ref))

    async def _read(self) -> None:
        while True:
            received = await self._socket.receive()
            if received["type"] == "websocket.disconnect":
                self._close(NORMAL, "")
                return
            if not self._is_within_rate():
                await self.fail(
                    RateLimited("There are too many messages on this connection.", retry_after_seconds=1)
                )
                self._close(POLICY, "too many messages")
                return
            await self._handle(received.get("text"))

    async def _handle(self, text: str | None) -> None:
        ref = None
        try:
            message = _parsed(text)
            ref = getattr(message, "ref", None)
            await self._dispatch(self, message)
        except AppError as error:
            await self.fail(error, ref=ref)

    async def _guarded(self, work: Coroutine[Any, Any, None], ref: str | None) -> None:
        try:
            await work
        except AppError as error:
            await self._guarded(self.fail(error, ref=ref), None)
        except _SlowReader:
            self._close(POLICY, "messages are not read")
        except (
            WebSocketDisconnect,
            RuntimeError,
        ):  # the second is Starlette's, for a connection that is closed
            self._close(NORMAL, "")
        except Exception as error:  # of one message or answer; the connection goes on
            log.error("socket_failed", exc_info=error)
            body = error_body("internal_error", "Something went wrong on the server; it has been logged.")
            message = schemas.SocketError(error=ErrorDetail(**body["error"]), ref=ref)
            await self._guarded(self.send(message), None)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._end_if_idle()

    def _told_to_stop(self, is_time_over: bool) -> int:
        """The service stops: answers end well or, when time is over, with an error; then the connection does."""
        del is_time_over
        self._end_if_idle()
        return 0

    def _end_if_idle(self) -> None:
        if self._draining.is_begun and not self._tasks:
            self._close(RESTARTING, "the service is being restarted")

    def _close(self, code: int, reason: str) -> None:
        if not self._closing.done():
            self._closing.set_result((code, reason))

    def _is_within_rate(self) -> bool:
        now = asyncio.get_running_loop().time()
        earned = (now - self._counted_at) * _MESSAGES_PER_SECOND
        self._allowance, self._counted_at = min(_MESSAGES_AT_ONCE, self._allowance + earned) - 1, now
        return self._allowance >= 0


async def _cancel(tasks: "set[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _parsed(text: str | None) -> schemas.ClientMessage:
    """Raises InvalidMessage, which says where and what, never the value."""
    if text is None:
        raise InvalidMessage("Messages are text, not binary.")
    try:
        return schemas.CLIENT_MESSAGE.validate_json(text)
    except ValidationError as error:
        problems = [
            {"path": ".".join(str(part) for part in problem["loc"])[:200], "message": problem["msg"]}
            for problem in error.errors(include_url=False, include_input=False)[:_MOST_PROBLEMS]
        ]
        raise InvalidMessage(details={"problems": problems}) from None
