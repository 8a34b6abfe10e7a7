"""What surrounds every request: its id, the limit of its body, one log line."""

import time
from typing import Any, Final

import structlog
from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import clear_contextvars

from app.api.errors import response_of
from app.core import ids
from app.core.errors import TooLarge

log = structlog.get_logger("app.access")

_QUIET: Final = ("/health", "/v1/health")


def add_middleware(app: FastAPI, *, max_body_bytes: int) -> None:
    """The last one added is the outermost."""
    app.add_middleware(BodyLimitMiddleware, max_bytes=max_body_bytes)
    app.add_middleware(AccessLogMiddleware)
    app.add_middleware(
        CorrelationIdMiddleware,
        header_name="X-Request-ID",
        generator=ids.new_request_id,
        validator=ids.is_request_id,
        transformer=lambda value: value,
    )


class _BodyTooLarge(Exception):
    """The body went past the limit while it was being read."""


class BodyLimitMiddleware:
    """413 for a body past the limit: at once where Content-Length says so, else as soon as it is passed."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.max_bytes:
            return await self._refuse(scope, receive, send)
        received = 0
        started = False

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise _BodyTooLarge
            return message

        async def watching(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, counting, watching)
        except _BodyTooLarge:
            if not started:
                await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = TooLarge(
            f"The body is larger than {self.max_bytes:,} bytes.", details={"limit_bytes": self.max_bytes}
        )
        response = response_of(error)
        response.headers["Connection"] = "close"
        await response(scope, receive, send)


class AccessLogMiddleware:
    """One line a request with status, duration and caller; no query strings and no bodies."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _QUIET:
            return await self.app(scope, receive, send)
        clear_contextvars()
        started = time.perf_counter()
        status = 500

        async def watching(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watching)
        finally:
            details: dict[str, Any] = {
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "duration_ms": round((time.perf_counter() - started) * 1000, 1),
            }
            log.info("request", **details)
