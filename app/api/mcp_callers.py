"""Who calls at /mcp, and errors as the protocol has them."""

from typing import Any, Final

from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from starlette.requests import Request

from app.core.errors import AppError, NotFound
from app.core.principal import Principal
from app.core.principal import Scope as Right
from app.services import auth
from app.services.runtime import Runtime

CALLER: Final = "ibid.mcp_caller"
"""Where in a request's scope stands who calls: a principal, and the runtime."""

Context = ServerRequestContext[Any]


def caller(context: Context) -> tuple[Runtime, Principal, Request]:
    request = context.request
    assert isinstance(request, Request)
    runtime, principal = request.scope[CALLER]
    return runtime, principal, request


def reader(context: Context) -> tuple[Runtime, Principal, Request]:
    runtime, principal, request = caller(context)
    try:
        auth.require_scope(principal, Right.READ)
    except AppError as error:
        raise protocol_error(error) from error
    return runtime, principal, request


def protocol_error(error: AppError, uri: str | None = None) -> MCPError:
    code = types.INVALID_PARAMS if isinstance(error, NotFound) else types.INVALID_REQUEST
    return MCPError(code, error.message, {"code": error.code, **({"uri": uri} if uri else {})})
