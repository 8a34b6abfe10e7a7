"""The one error shape, and the one table from an error's category to its HTTP status."""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import structlog
from asgi_correlation_id import correlation_id
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.core.errors import AppError, Category

log = structlog.get_logger(__name__)

STATUS: Final[Mapping[Category, int]] = {
    Category.INVALID: 422,
    Category.UNAUTHENTICATED: 401,
    Category.PAYMENT_REQUIRED: 402,
    Category.FORBIDDEN: 403,
    Category.NOT_FOUND: 404,
    Category.CONFLICT: 409,
    Category.OUTDATED: 412,
    Category.TOO_LARGE: 413,
    Category.UNSUPPORTED: 415,
    Category.TARGET_TOO_LONG: 414,
    Category.LIMITED: 429,
    Category.HEAD_TOO_LARGE: 431,
    Category.BAD_GATEWAY: 502,
    Category.UNAVAILABLE: 503,
    Category.GATEWAY_TIMEOUT: 504,
    Category.INSUFFICIENT_STORAGE: 507,
}
_MAX_PROBLEMS: Final = 20


def error_body(code: str, message: str, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`{"error": {code, message, details, request_id}}`, as it is sent and as it stands in streams."""
    return {
        "error": {
            "code": code,
            "message": message,
            "details": dict(details or {}),
            "request_id": correlation_id.get() or "",
        }
    }


def body_of(error: AppError) -> dict[str, Any]:
    return error_body(error.code, error.message, error.details)


def add_error_handlers(app: FastAPI) -> None:
    """Every way in which a request can fail answers in the one shape."""
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _client_gone)


def response_of(error: AppError) -> JSONResponse:
    headers = {}
    if error.category is Category.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    return JSONResponse(body_of(error), STATUS[error.category], headers)


async def _app_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AppError)
    response = response_of(error)
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request_failed", code=error.code, cause=type(error.__cause__).__name__)
    return response


async def _validation_error(_: Request, error: Exception) -> JSONResponse:
    """Says where and what, never the value: it may be a secret, or no JSON (NaN)."""
    assert isinstance(error, RequestValidationError)
    found = {
        (
            _path(problem["loc"], error.body, is_missing=problem["type"] == "missing"),
            problem["msg"].removeprefix("Value error, "),
        ): None
        for problem in error.errors()[:_MAX_PROBLEMS]
    }
    problems = [{"path": path[:200], "message": message} for path, message in found]
    first = f"{problems[0]['path']}: {problems[0]['message']}"
    if problems[0]["path"] == "body":
        first = problems[0]["message"]
    if problems[0]["path"] == "body" and not isinstance(error.body, dict):
        first = "The body must be a JSON object, sent with Content-Type: application/json."
    return JSONResponse(error_body("validation_error", first, {"problems": problems}), 422)


def _path(loc: Sequence[str | int], body: object, *, is_missing: bool) -> str:
    """Where in the request a problem is, without the names of the alternatives that a value was tried as."""
    if loc[0] != "body" or not isinstance(body, dict | list):
        return ".".join(map(str, loc))
    parts = ["body"]
    within: Any = body
    for place, part in enumerate(loc[1:], start=2):
        places = (
            within if isinstance(within, dict) else range(len(within)) if isinstance(within, list) else ()
        )
        if part in places:
            within = within[part]
        elif not (is_missing and place == len(loc)):
            continue
        parts.append(str(part))
    return ".".join(parts)


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    code = {400: "invalid_request", 404: "route_not_found", 413: "too_large"}.get(
        status, status.phrase.lower().replace(" ", "_")
    )
    message = {
        404: "There is no such route.",
        405: "This route does not know this method.",
        400: "The body is not valid JSON.",
        413: "The body is larger than the limit.",
    }.get(status, status.phrase)
    return JSONResponse(error_body(code, message), status, dict(error.headers or {}))


async def _client_gone(_: Request, __: Exception) -> JSONResponse:
    """Nobody reads this; the log line carries the status that proxies use for it."""
    return JSONResponse(error_body("client_closed_request", "The client went away."), 499)


def unexpected_error(path: str, error: Exception) -> JSONResponse:
    """Log a failure of ours, and answer without a word of it."""
    log.error("unexpected_error", path=path, exc_info=error)
    return JSONResponse(
        error_body("internal_error", "Something went wrong on the server; it has been logged."), 500
    )
