"""What every answer tells a browser: trust nothing but what is said here, keep nothing, and which origins may ask.

The API has no cookies: credentials go in header fields, so that no foreign page can make a browser send them. The admin
tables have some, and see to that themselves (`app.admin.gate`).
"""

from functools import lru_cache
from typing import Final

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import addresses, quotas
from app.core.config import Network, Settings

Field = tuple[bytes, bytes]

_ALWAYS: Final[tuple[Field, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
_NO_CONTENT: Final = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_OWN_PAGES: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:;"
    b" connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_OWN_PAGES_WITH_SCRIPTS: Final = _OWN_PAGES.replace(
    b"script-src 'self'", b"script-src 'self' 'unsafe-inline'"
)
_POLICIES: Final = (
    ("/docs", _OWN_PAGES),
    ("/set-password", _OWN_PAGES),
    ("/join", _OWN_PAGES),
    ("/admin/", _OWN_PAGES_WITH_SCRIPTS),
)
"""Content security policies by the beginning of the path; all else is data, in which nothing is to run."""

_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")
_NO_STORE: Final = (b"cache-control", b"no-store")
_READABLE: Final = (
    "X-Request-ID",
    "Link",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
)
_SENDABLE: Final = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "X-API-Key",
    "X-Organization-ID",
    "X-Request-ID",
)


def add_browser_rules(app: FastAPI, settings: Settings) -> None:
    """The header fields of every answer and, for the configured origins, CORS."""
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=_SENDABLE,
            expose_headers=_READABLE,
            max_age=600,
        )
    app.add_middleware(AnswerFieldsMiddleware, settings=settings)


class AnswerFieldsMiddleware:
    """Adds the fields that an answer does not set itself: those of browsers, and what is left of rate limits."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        noted = scope[quotas.NOTED] = []
        if self._is_https(scope):
            scope["scheme"] = "https"  # so that cookies are made Secure, also behind a proxy

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                names = {name.lower() for name, _ in given}
                message["headers"] = [
                    *given,
                    *(field for field in self._fields(scope) if field[0] not in names),
                    *quotas.header_fields(noted),
                ]
                if message["status"] in _REDIRECTS:
                    _make_relative(message, scope)
            await send(message)

        await self.app(scope, receive, adding)

    def _fields(self, scope: Scope) -> tuple[Field, ...]:
        return _fields(_policy(scope["path"]), scope["scheme"] == "https")

    def _is_https(self, scope: Scope) -> bool:
        if self.settings.is_https:
            return True
        trusted = self.settings.trusted_networks
        if not trusted or not _is_trusted((scope.get("client") or ("",))[0], trusted):
            return False
        return any(
            name == b"x-forwarded-proto" and value.strip().lower() == b"https"
            for name, value in scope["headers"]
        )


def _policy(path: str) -> bytes:
    return next((policy for beginning, policy in _POLICIES if path.startswith(beginning)), _NO_CONTENT)


@lru_cache(maxsize=16)
def _fields(policy: bytes, is_https: bool) -> tuple[Field, ...]:
    fields = (*_ALWAYS, (b"content-security-policy", policy), _NO_STORE)
    return (*fields, _HSTS) if is_https else fields


@lru_cache(maxsize=1000)
def _is_trusted(peer: str, trusted: tuple[Network, ...]) -> bool:
    return addresses.is_trusted(peer, trusted)


_REDIRECTS: Final = (301, 302, 303, 307, 308)


def _make_relative(message: Message, scope: Scope) -> None:
    """A redirect to this service names no host: the one it came by was the client's own talk."""
    headers = MutableHeaders(raw=message["headers"])
    location = headers.get("location", "")
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    for beginning in (f"http://{host}/", f"https://{host}/"):
        if host and location.startswith(beginning):
            headers["location"] = location[len(beginning) - 1 :]
