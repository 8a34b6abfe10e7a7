"""Who may open a WebSocket connection: from which pages, and by which credential.

A browser can't set header fields here, so the credential comes as a one-time ticket in the address, as a subprotocol, or in
the first message. It is looked at again with every question, as it is with every request.
"""

from typing import Final
from urllib.parse import urlsplit

from fastapi import WebSocket
from structlog.contextvars import bind_contextvars

from app.core import origin
from app.core.errors import TooManyConnections, Unauthenticated
from app.core.principal import Principal, Scope
from app.services import auth, tickets
from app.services.runtime import Runtime

SUBPROTOCOL: Final = "ibid"
_BEARER: Final = "ibid.bearer."
_MOST_CONNECTIONS: Final = 50
"""Of one caller to one process."""


class Admission:
    """The credential of one connection."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._credential = ""
        self._organization_id: str | None = None
        self._whose: tuple[str | None, str] | None = None

    @property
    def is_known(self) -> bool:
        return self._whose is not None

    async def principal(self) -> Principal:
        """Whose credential it is now. Raises Unauthenticated, TokenExpired, OrganizationNotFound, TotpEnrolmentRequired."""
        if not self._credential:
            raise Unauthenticated
        caller = await auth.authenticate(
            self._runtime, self._credential, organization_id=self._organization_id
        )
        principal = auth.require_complete(caller)
        origin.recognise(principal)
        return principal

    async def admit(self, credential: str, organization_id: str | None) -> Principal:
        """Take the first credential of the connection. Raises as `principal`, and MissingScope."""
        self._credential, self._organization_id = credential, organization_id
        principal = await self.principal()
        if principal.scopes.isdisjoint({Scope.CHAT, Scope.READ}):
            auth.require_scope(principal, Scope.CHAT)
        self._whose = principal.organization_id, principal.id
        bind_contextvars(organization_id=principal.organization_id, principal_id=principal.id)
        return principal

    async def renew(self, credential: str, organization_id: str | None) -> Principal:
        """Take another credential of the same caller. Raises as `admit`, and Unauthenticated for somebody else's."""
        earlier = self._credential, self._organization_id
        self._credential, self._organization_id = credential, organization_id or self._organization_id
        try:
            principal = await self.principal()
            if (principal.organization_id, principal.id) != self._whose:
                raise Unauthenticated("This connection is somebody else's; open another one.")
        except BaseException:
            self._credential, self._organization_id = earlier
            raise
        return principal


async def offered_credential(socket: WebSocket, runtime: Runtime) -> tuple[str, str | None] | None:
    """What the address or the header fields say; None where the first message is to say it. Raises Unauthenticated."""
    if ticket := socket.query_params.get("ticket"):
        return await tickets.redeem(runtime, ticket)
    organization_id = socket.headers.get("x-organization-id")
    for protocol in socket.scope["subprotocols"]:
        if protocol.startswith(_BEARER):
            return protocol.removeprefix(_BEARER), organization_id
    scheme, _, credential = socket.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credential:
        return credential.strip(), organization_id
    if key := socket.headers.get("x-api-key"):
        return key, organization_id
    return None


def comes_from_a_known_page(socket: WebSocket, runtime: Runtime) -> bool:
    """Whether no page opened the connection, one of our own did, or one that the settings name."""
    page = socket.headers.get("origin")
    own = (runtime.settings.public_url or "").rstrip("/")
    if page is None or page in (own, *runtime.settings.allowed_origins):
        return True
    return urlsplit(page).netloc.lower() == socket.headers.get("host", "").lower()


class Places:
    """How many connections each caller has to this process."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def take(self, principal: Principal) -> None:
        """Raises TooManyConnections."""
        taken = self._taken.get(principal.id, 0)
        if taken >= _MOST_CONNECTIONS:
            raise TooManyConnections(details={"limit": _MOST_CONNECTIONS}, retry_after_seconds=5)
        self._taken[principal.id] = taken + 1

    def leave(self, principal: Principal) -> None:
        if self._taken[principal.id] == 1:
            del self._taken[principal.id]
        else:
            self._taken[principal.id] -= 1
