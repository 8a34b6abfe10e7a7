"""The door for agents, by the Model Context Protocol. Who has no credentials does not get past it."""

import asyncio
import importlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from starlette.types import Receive, Scope, Send

from app.api.deps import RuntimeDep, get_principal
from app.core.errors import McpOff
from app.core.principal import Principal
from app.services.runtime import Runtime

router = APIRouter(tags=["mcp"], include_in_schema=False)
"""Not in the OpenAPI description: requests and answers are JSON-RPC, which its clients describe themselves."""


@router.post("/mcp")
async def answer_agent(
    runtime: RuntimeDep, principal: Annotated[Principal, Depends(get_principal)]
) -> Response:
    """One request of an agent, under the caller's scopes and limits. Raises McpOff."""
    if not runtime.settings.mcp:
        raise McpOff
    # With the first connection alone: the SDK takes 15 MB, and half a second, which the event loop does not have.
    server = await asyncio.to_thread(importlib.import_module, "app.api.mcp_server")
    return _Served(server, runtime, principal)


class _Served(Response):
    """What the SDK answers."""

    def __init__(self, server: Any, runtime: Runtime, principal: Principal) -> None:
        super().__init__()
        self._server = server
        self._caller = runtime, principal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[self._server.CALLER] = self._caller
        await self._server.serve(scope, receive, send)
