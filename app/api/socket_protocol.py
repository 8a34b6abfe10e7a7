"""One WebSocket connection: uvicorn's, which ends in order when the service stops, and at all when nobody reads."""

import asyncio
import logging
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_ABORT_SECONDS: Final = 10.0

_quiet = logging.getLogger("uvicorn.websockets")
_quiet.setLevel(logging.WARNING)  # it would log addresses with their query, and a ticket stands there


class SocketProtocol(WebSocketsSansIOProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _quiet

    def shutdown(self) -> None:
        """The application ends its connections itself, each when its answers have ended (`Draining`)."""
        if not self.handshake_complete or self.close_sent:
            super().shutdown()

    def on_task_complete(self, task: "asyncio.Task[None]") -> None:
        super().on_task_complete(task)
        # What is still unsent to a client that does not read would keep the connection for as long as it likes.
        self.loop.call_later(_ABORT_SECONDS, self.transport.abort)
