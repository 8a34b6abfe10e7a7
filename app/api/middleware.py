"""What surrounds every request: its id and origin, the limit of its body, one log line."""

import asyncio
import contextlib
import re
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import structlog
from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import clear_contextvars

from app.api import addresses
from app.api.browsers import add_browser_rules
from app.api.errors import error_body, response_of, unexpected_error
from app.api.multipart import UPLOADS_AT_ONCE
from app.core import ids, origin
from app.core.config import Network, Settings
from app.core.errors import HeadTooLarge, TargetTooLong, TooLarge

log = structlog.get_logger("app.access")

_DISCARD_SECONDS: Final = 5.0
_DISCARD_FACTOR: Final = 4
_MAX_TARGET_BYTES: Final = 8_192
_MAX_HEADERS: Final = 100
_MAX_HEADER_BYTES: Final = 24_576
_UPLOADS: Final = ("/documents", "/v1/documents", "/chat/upload", "/v1/chat/upload")
_SECRET_PATHS: Final = re.compile(r"^(/v1)?/shared/.+", re.DOTALL)
_QUIET: Final = ("/health", "/v1/health")


def loggable_path(path: str) -> str:
    """The path without what only who has the link may know."""
    return _SECRET_PATHS.sub(r"\1/shared/…", path)


def add_middleware(app: FastAPI, settings: Settings) -> None:
    """The last one added is the outermost."""
    app.add_middleware(UnexpectedErrorMiddleware)
    app.add_middleware(
        RequestLimitsMiddleware,
        # Escaped as \uXXXX a text is up to six times its bytes, in practice twice.
        max_bytes=2 * settings.ingest_max_text_bytes + 1_000_000,
        max_upload_bytes=UPLOADS_AT_ONCE * settings.max_upload_bytes + 1_000_000,
    )
    add_browser_rules(app, settings)
    app.add_middleware(AccessLogMiddleware)
    app.add_middleware(OriginMiddleware, trusted_proxies=settings.trusted_networks)
    app.add_middleware(
        CorrelationIdMiddleware,
        header_name="X-Request-ID",
        generator=ids.new_request_id,
        validator=ids.is_request_id,
        transformer=lambda value: value,
    )


class UnexpectedErrorMiddleware:
    """The answer to a failure of ours, inside the other middleware: with request id, header fields and log line."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watching(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watching)
        except Exception as error:
            if started:
                raise
            await unexpected_error(loggable_path(scope["path"]), error)(scope, receive, send)


class OriginMiddleware:
    """Notes the client's address: the peer's, or the one that a trusted proxy says it speaks for."""

    def __init__(self, app: ASGIApp, trusted_proxies: Sequence[Network]) -> None:
        self.app = app
        self.trusted_proxies = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        peer = scope["client"][0] if scope.get("client") else ""
        hops = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        with origin.request(addresses.client_address(peer, hops, trusted=self.trusted_proxies)):
            await self.app(scope, receive, send)


class RequestLimitsMiddleware:
    """Bounds what a request may be: address, header fields, and the body.

    413 for a body past the limit: at once where Content-Length says so, else as soon as it is passed.

    FastAPI's own `max_body_size` does the same but answers in plain text, and every error here has one shape.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_upload_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_upload_bytes = max_upload_bytes
        """For requests with files, which are not held in memory."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if (refusal := _refusal_of_head(scope)) is not None:
            await refusal(scope, receive, send)
            return
        limit = self._limit(scope)
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            await self._refuse(scope, receive, send, limit)
            return
        received = 0

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return message

        await self.app(scope, counting, send)

    def _limit(self, scope: Scope) -> int:
        if scope["method"] == "POST" and scope["path"].rstrip("/") in _UPLOADS:
            return self.max_upload_bytes
        return self.max_bytes

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        error = TooLarge(f"The body is larger than {limit:,} bytes.", details={"limit_bytes": limit})
        await self._discard(receive)
        response = response_of(error)
        response.headers["Connection"] = "close"
        await response(scope, receive, send)

    async def _discard(self, receive: Receive) -> None:
        """Take in a body that is not far past the limit: closing on a client that still sends loses it the answer."""
        discarded = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                while discarded <= _DISCARD_FACTOR * self.max_bytes:
                    message = await receive()
                    discarded += len(message.get("body", b""))
                    if not message.get("more_body"):
                        return


def _refusal_of_head(scope: Scope) -> Response | None:
    """The answer to a head that is too much; the server itself bounds only heads that come in pieces."""
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > _MAX_TARGET_BYTES:
        return response_of(TargetTooLong(details={"limit_bytes": _MAX_TARGET_BYTES}))
    headers = scope["headers"]
    if (
        len(headers) > _MAX_HEADERS
        or sum(len(name) + len(value) for name, value in headers) > _MAX_HEADER_BYTES
    ):
        return response_of(
            HeadTooLarge(details={"limit_fields": _MAX_HEADERS, "limit_bytes": _MAX_HEADER_BYTES})
        )
    names = {name for name, _ in headers}
    if b"transfer-encoding" in names and b"content-length" in names:
        # Where the body ends is then a matter of opinion, and a proxy's may be another: a second request hides there.
        body = error_body("invalid_request", "Send either Content-Length or Transfer-Encoding, not both.")
        return JSONResponse(body, HTTPStatus.BAD_REQUEST, {"Connection": "close"})
    return None


class AccessLogMiddleware:
    """One line a request with status, duration and caller; no query strings and no bodies."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _QUIET:
            await self.app(scope, receive, send)
            return
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
                "path": loggable_path(scope["path"]),
                "status": status,
                "duration_ms": round((time.perf_counter() - started) * 1000, 1),
            }
            log.info("request", **details)
