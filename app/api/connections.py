"""One HTTP connection: uvicorn's, with patience that ends, and with our own shape of errors before any route is reached.

uvicorn waits for ever for the rest of a request's head or body, so that a few hundred connections that say one byte a
minute take all it has.
"""

import asyncio
import json
import socket
from http import HTTPStatus
from typing import Any, Final, cast

import h11
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.api.draining import Draining
from app.api.errors import error_body
from app.core import ids
from app.core.config import Settings

log = structlog.get_logger(__name__)

MAX_HEAD_BYTES: Final = 32_768
MAX_SOCKET_MESSAGE_BYTES: Final = 131_072
"""A question of 8,000 characters is at most 96,000 bytes of JSON."""

_LEAST_BYTES_PER_SECOND: Final = 1000
_ENDING_SECONDS: Final = 5
"""For clients to be told that they are cut off, and for their answers to be stored."""

_KEEP_ALIVE_SECONDS: Final = 75  # longer than the proxies in front, so that they are the ones who close


def _websocket_protocol(**values: Any) -> asyncio.Protocol:
    # A megabyte, and most processes of small installations never have such a connection.
    from app.api.socket_protocol import SocketProtocol

    return SocketProtocol(**values)


def server_config(app: Any, settings: Settings, **values: Any) -> uvicorn.Config:
    """How the service is served; `values` are uvicorn's own names."""

    class Connection(PatientConnection):
        head_seconds = settings.header_timeout_seconds
        body_seconds = settings.body_timeout_seconds

    return uvicorn.Config(
        app,
        http=Connection,
        ws=cast(type[asyncio.Protocol], _websocket_protocol),  # a maker of them does as well
        ws_max_size=MAX_SOCKET_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # a window for each connection would be most of its memory
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        proxy_headers=False,  # who is believed is a setting of ours: see app.api.addresses
        timeout_graceful_shutdown=settings.shutdown_timeout_seconds + _ENDING_SECONDS,
        **values,
    )


class DrainingServer(uvicorn.Server):
    """Accepts nothing more on SIGTERM, lets what is under way end, and ends it when its time is over."""

    def __init__(self, config: uvicorn.Config, *, draining: Draining, seconds: float) -> None:
        super().__init__(config)
        self._draining = draining
        self._seconds = seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._draining.begin()
        ending = asyncio.create_task(self._end_in_time())
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    async def _end_in_time(self) -> None:
        await asyncio.sleep(self._seconds)
        if stopped := self._draining.stop():
            log.warning("ended_by_shutdown", count=stopped)


class _Gathering:
    """A transport that sends at once what is written in one go: uvicorn writes the head of an answer and its body apart."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if data:
            self._written.append(data)
            if len(self._written) == 1:
                self._loop.call_soon(self._send)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        written, self._written = self._written, []
        if written and not self._transport.is_closing():
            self._transport.write(b"".join(written))


class PatientConnection(H11Protocol):
    """Waits `head_seconds` for a head; of a body 1 kB a second must come in each span of `body_seconds`."""

    head_seconds: float
    body_seconds: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience: asyncio.TimerHandle | None = None
        self._awaited: object = None
        self._received_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, _Gathering(transport, self.loop)))
        self._await(h11.IDLE, self.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        super().data_received(data)
        state = self.conn.their_state
        if state is h11.IDLE:
            self._await(state, self.head_seconds)
        elif state is h11.SEND_BODY:
            self._await(state, self.body_seconds)
        elif self._patience is not None:
            self._stop_waiting()

    def _await(self, state: object, seconds: float) -> None:
        """Wait for the other side to go on from this state; a wait that has begun goes on."""
        if self._patience is not None and self._awaited is state:
            return
        self._stop_waiting()
        self._awaited, self._received_bytes = state, 0
        self._patience = self.loop.call_later(seconds, self._time_is_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _time_is_up(self) -> None:
        self._patience = None
        if self.transport.is_closing():
            return
        if self._awaited is h11.SEND_BODY:
            enough = self.body_seconds * _LEAST_BYTES_PER_SECOND
            if self.flow.read_paused or self._received_bytes >= enough:  # paused: it is us who are slow
                self._await(h11.SEND_BODY, self.body_seconds)
                return
        elif not self._received_bytes and not self.conn.trailing_data[0]:
            self.transport.close()  # it has said nothing at all
            return
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", "The request took too long to arrive.")

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls when a request is no HTTP."""
        self._stop_waiting()
        if len(self.conn.trailing_data[0]) > MAX_HEAD_BYTES:
            status, code = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large"
            msg = f"The head of the request is larger than {MAX_HEAD_BYTES:,} bytes."
        else:
            status, code = HTTPStatus.BAD_REQUEST, "invalid_request"
        self._refuse(status, code, msg)

    def _refuse(self, status: HTTPStatus, code: str, message: str) -> None:
        """Answer where that is still possible, close, and tell whoever reads the body that no more of it comes."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = error_body(code, message)
            body["error"]["request_id"] = ids.new_request_id()
            content = json.dumps(body).encode()
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(content)).encode()),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
                (b"x-request-id", body["error"]["request_id"].encode()),
                (b"connection", b"close"),
            ]
            response = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
            for event in (response, h11.Data(data=content), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
