"""What routes ask for: who is calling, with which scope, and the transaction of a plain request."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Security
from structlog.contextvars import bind_contextvars

from app.api import quotas
from app.api.credentials import Credentials
from app.core import origin
from app.core.errors import Unauthenticated
from app.core.principal import Principal, Scope
from app.core.rates import Activity
from app.db.engine import Transaction
from app.services import auth
from app.services.runtime import Runtime


async def get_runtime(request: Request) -> Runtime:
    runtime = request.app.state.runtime
    assert isinstance(runtime, Runtime)
    return runtime


RuntimeDep = Annotated[Runtime, Depends(get_runtime)]


ActsIn = Annotated[
    str | None,
    Header(alias="X-Organization-ID", description="For superadmins: the organization to act in."),
]


CredentialDep = Annotated[str, Security(Credentials())]
"""What the request was sent with, unchecked; empty for nothing."""


async def get_caller(request: Request, credential: CredentialDep, acts_in: ActsIn = None) -> auth.Caller:
    """The caller, who may lack the second factor that is asked of admins.

    Raises Unauthenticated or OrganizationNotFound.
    """
    if not credential:
        raise Unauthenticated
    return _recognised(
        await auth.authenticate(await get_runtime(request), credential, organization_id=acts_in)
    )


def _recognised(caller: auth.Caller) -> auth.Caller:
    origin.recognise(caller.principal)
    bind_contextvars(organization_id=caller.principal.organization_id, principal_id=caller.principal.id)
    return caller


CallerDep = Annotated[auth.Caller, Depends(get_caller)]


async def get_principal(caller: CallerDep) -> Principal:
    """The caller with all factors. Raises Unauthenticated, OrganizationNotFound or TotpEnrolmentRequired."""
    return auth.require_complete(caller)


async def get_asker(request: Request, credential: CredentialDep, acts_in: ActsIn = None) -> Principal:
    """As `get_principal`, but it may be `is_unproven`: for who opens a turn, which proves it, or calls `auth.prove`."""
    if not credential:
        raise Unauthenticated
    runtime = await get_runtime(request)
    return auth.require_complete(
        _recognised(await auth.authenticate_asker(runtime, credential, organization_id=acts_in))
    )


async def get_enrolling_user(caller: CallerDep) -> auth.Caller:
    """A person who has logged in, with or without the second factor. Raises also UserRequired."""
    return auth.require_user(caller)


async def get_user(caller: CallerDep) -> auth.Caller:
    """A person who has logged in with all factors. Raises also UserRequired and TotpEnrolmentRequired."""
    auth.require_complete(caller)
    return auth.require_user(caller)


EnrollingUserDep = Annotated[auth.Caller, Depends(get_enrolling_user)]
UserDep = Annotated[auth.Caller, Depends(get_user)]


def require(scope: Scope) -> Callable[[Principal], Coroutine[Any, Any, Principal]]:
    """The caller, who must carry the scope. Raises Unauthenticated or MissingScope."""

    async def checked(principal: Annotated[Principal, Depends(get_principal)]) -> Principal:
        auth.require_scope(principal, scope)
        return principal

    return checked


def address_within(activity: Activity) -> Callable[..., Coroutine[Any, Any, None]]:
    """Count the request for the address that it comes from, before anybody looks who it is. Raises RateLimited."""

    async def counted(request: Request) -> None:
        address = await get_client_address()
        await quotas.count_address(request, await get_runtime(request), activity, address)

    return counted


def require_within(
    activity: Activity, scope: Scope, whom: Callable[..., Coroutine[Any, Any, Principal]] = get_principal
) -> Callable[..., Coroutine[Any, Any, Principal]]:
    """As `require`, within the limits of address and caller. Raises RateLimited too."""

    async def checked(
        request: Request,
        _: Annotated[None, Depends(address_within(activity))],
        principal: Annotated[Principal, Depends(whom)],
    ) -> Principal:
        auth.require_scope(principal, scope)
        await quotas.count_caller(request, await get_runtime(request), activity, principal)
        return principal

    return checked


def require_one_of(*scopes: Scope) -> Callable[[Principal], Coroutine[Any, Any, Principal]]:
    """The caller, who must carry one of the scopes. Raises Unauthenticated or MissingScope, which names the first."""

    async def checked(principal: Annotated[Principal, Depends(get_principal)]) -> Principal:
        if not principal.scopes & frozenset(scopes):
            auth.require_scope(principal, scopes[0])
        return principal

    return checked


AskingPrincipal = Annotated[Principal, Depends(require_within(Activity.CHAT, Scope.CHAT))]
UnprovenAskingPrincipal = Annotated[Principal, Depends(require_within(Activity.CHAT, Scope.CHAT, get_asker))]
SearchingPrincipal = Annotated[Principal, Depends(require_within(Activity.SEARCH, Scope.SEARCH))]
UploadingPrincipal = Annotated[Principal, Depends(require_within(Activity.INGEST, Scope.CHAT))]
IngestingPrincipal = Annotated[Principal, Depends(require_within(Activity.INGEST, Scope.INGEST))]
TryingPrincipal = Annotated[Principal, Depends(require_within(Activity.CHAT, Scope.MANAGE))]
"""For the routes that cost something: within the limits of bursts."""

WITHIN_LOGIN_LIMIT = Depends(address_within(Activity.LOGIN))

ChatPrincipal = Annotated[Principal, Depends(require(Scope.CHAT))]
SearchPrincipal = Annotated[Principal, Depends(require(Scope.SEARCH))]
IngestPrincipal = Annotated[Principal, Depends(require(Scope.INGEST))]
ReadPrincipal = Annotated[Principal, Depends(require(Scope.READ))]
ManagePrincipal = Annotated[Principal, Depends(require(Scope.MANAGE))]
BotReadingPrincipal = Annotated[Principal, Depends(require_one_of(Scope.CHAT, Scope.READ, Scope.MANAGE))]
"""Who chats has to know with whom."""


async def get_transaction(
    runtime: RuntimeDep, principal: Annotated[Principal, Depends(get_principal)]
) -> AsyncIterator[Transaction]:
    """One transaction a request: committed before the answer is sent, rolled back on any error."""
    async with runtime.database.unit_of_work(principal) as session:
        yield session


TransactionDep = Annotated[Transaction, Depends(get_transaction, scope="function")]
"""With the default scope FastAPI would answer before the commit."""


async def get_client_address() -> str:
    """Where the request comes from: the peer, or who a trusted proxy says it speaks for."""
    return origin.address() or ""


AddressDep = Annotated[str, Depends(get_client_address)]

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="A value of the client's own, new for each thing it wants done. The same request with the same key"
        " within 24 hours gets the same answer and is not carried out again."
    ),
]
