"""Errors on the routes that imitate OpenAI's: its fields, and ours beside them."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from app.api.errors import body_of, error_body, response_of
from app.core.errors import AppError, BotNotFound

log = structlog.get_logger(__name__)

_CODES: Final = {
    "unauthenticated": "invalid_api_key",
    "token_expired": "invalid_api_key",
    "bot_not_found": "model_not_found",
    "rate_limited": "rate_limit_exceeded",
    "budget_spent": "insufficient_quota",
}
"""OpenAI's names where it has one, since clients look for them; all others are ours."""
_MOST_PROBLEMS: Final = 20


class CompatibleRoute(APIRoute):
    """Answers a failure with `{"error": {message, type, param, code}}`, and with `details` and `request_id` as everywhere."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def translated(request: Request) -> Response:
            try:
                return await handler(request)
            except AppError as error:
                response = response_of(error)
                if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    log.warning("request_failed", code=error.code, cause=type(error.__cause__).__name__)
                headers = {
                    name: value
                    for name, value in response.headers.items()
                    if name not in ("content-length", "content-type")
                }
                return JSONResponse(error_of(error, response.status_code), response.status_code, headers)
            except RequestValidationError as error:
                return JSONResponse(_of_validation(error), HTTPStatus.BAD_REQUEST)
            except HTTPException as error:
                body = error_body("invalid_request", "The body is not valid JSON.")
                return JSONResponse(_compatible(body, error.status_code), error.status_code)

        return translated


def error_of(error: AppError, status: int) -> dict[str, Any]:
    """The body of a failure, or the last event of a stream that fails."""
    return _compatible(body_of(error), status, param="model" if isinstance(error, BotNotFound) else None)


def unexpected() -> dict[str, Any]:
    body = error_body("internal_error", "Something went wrong on the server; it has been logged.")
    return _compatible(body, HTTPStatus.INTERNAL_SERVER_ERROR)


def _compatible(body: dict[str, Any], status: int, *, param: str | None = None) -> dict[str, Any]:
    error = body["error"]
    code = _CODES.get(error["code"], error["code"])
    return {"error": {**error, "code": code, "type": _type(status), "param": param}}


def _type(status: int) -> str:
    match status:
        case HTTPStatus.PAYMENT_REQUIRED:
            return "insufficient_quota"
        case HTTPStatus.TOO_MANY_REQUESTS:
            return "rate_limit_error"
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return "server_error"
        case _:
            return "invalid_request_error"


def _of_validation(error: RequestValidationError) -> dict[str, Any]:
    """Says where and what, never the value."""
    problems = [
        {
            "path": ".".join(str(part) for part in problem["loc"] if part != "body")[:200],
            "message": problem["msg"],
        }
        for problem in error.errors()[:_MOST_PROBLEMS]
    ]
    path, message = problems[0]["path"], problems[0]["message"].removeprefix("Value error, ")
    body = error_body("validation_error", f"{path}: {message}" if path else message, {"problems": problems})
    return _compatible(body, HTTPStatus.BAD_REQUEST, param=path or None)
