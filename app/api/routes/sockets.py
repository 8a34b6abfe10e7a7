"""The conversation over a WebSocket connection."""

import asyncio
from typing import Final

from fastapi import APIRouter, WebSocket
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect

from app.api import quotas
from app.api.deps import ActsIn, AskingPrincipal, CredentialDep, RuntimeDep
from app.api.draining import Draining
from app.api.errors import body_of
from app.api.schemas import sockets as schemas
from app.api.schemas.base import ErrorDetail
from app.api.socket_admission import (
    SUBPROTOCOL,
    Admission,
    Places,
    comes_from_a_known_page,
    offered_credential,
)
from app.api.socket_answers import Answers
from app.api.sockets import Connection
from app.core import origin
from app.core.errors import AppError, Category, InvalidMessage, Unauthenticated
from app.core.principal import Principal
from app.core.rates import Activity
from app.services import tickets
from app.services.runtime import Runtime

router = APIRouter(prefix="/chat", tags=["chat"])

_FIRST_MESSAGE_SECONDS: Final = 10.0
_CODES: Final = {
    Category.UNAUTHENTICATED: 4401,
    Category.FORBIDDEN: 4403,
    Category.NOT_FOUND: 4404,
    Category.LIMITED: 4429,
    Category.INVALID: 4422,
}
_UNAVAILABLE: Final = 1013


@router.post("/ws/ticket", status_code=201, responses=quotas.RESPONSES)
async def issue_ticket(
    runtime: RuntimeDep, principal: AskingPrincipal, credential: CredentialDep, acts_in: ActsIn = None
) -> schemas.TicketResponse:
    """A ticket for one connection to `/chat/ws?ticket=…`, within half a minute: for browsers, which can set nothing else."""
    ticket = await tickets.issue(runtime, principal, credential, organization_id=acts_in)
    return schemas.TicketResponse(ticket=ticket, expires_in=int(tickets.LIFETIME.total_seconds()))


@router.websocket("/ws")
async def converse(socket: WebSocket) -> None:
    """Questions and answers of several sessions over one connection; the messages are in docs/websocket.md."""
    runtime: Runtime = socket.app.state.runtime
    draining: Draining = socket.app.state.draining
    places: Places = socket.app.state.socket_places
    if not comes_from_a_known_page(socket, runtime):
        await socket.close(1008)
        return
    offered = socket.scope["subprotocols"]
    await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
    admission = Admission(runtime)
    try:
        principal = await _admitted(socket, runtime, admission)
        places.take(principal)
    except AppError as error:
        await _refuse(socket, error)
        return
    except WebSocketDisconnect:
        return
    try:
        await Connection(socket, draining, Answers(socket, runtime, admission)).serve()
    finally:
        places.leave(principal)


async def _admitted(socket: WebSocket, runtime: Runtime, admission: Admission) -> Principal:
    """Who is on the connection; told to them. Raises AppError and WebSocketDisconnect."""
    await quotas.count_address(socket, runtime, Activity.CHAT, origin.address() or "")
    known = await offered_credential(socket, runtime) or await _first_message(socket)
    principal = await admission.admit(*known)
    message = schemas.Authenticated(organization_id=principal.organization)
    await socket.send_text(schemas.as_text(message))
    return principal


async def _first_message(socket: WebSocket) -> tuple[str, str | None]:
    try:
        async with asyncio.timeout(_FIRST_MESSAGE_SECONDS):
            text = await socket.receive_text()
        message = schemas.CLIENT_MESSAGE.validate_json(text)
    except (TimeoutError, KeyError):  # the second is Starlette's, for a binary message
        raise Unauthenticated from None
    except ValidationError:
        raise InvalidMessage from None
    if not isinstance(message, schemas.Authenticate):
        raise Unauthenticated
    return message.token, message.organization_id


async def _refuse(socket: WebSocket, error: AppError) -> None:
    try:
        message = schemas.SocketError(error=ErrorDetail(**body_of(error)["error"]))
        await socket.send_text(schemas.as_text(message))
        await socket.close(_CODES.get(error.category, _UNAVAILABLE), error.code)
    except (WebSocketDisconnect, RuntimeError):
        return
