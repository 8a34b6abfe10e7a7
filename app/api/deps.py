"""What routes ask for: who is calling, with which scope, and the transaction of a plain request."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from structlog.contextvars import bind_contextvars

from app.core.errors import Unauthenticated
from app.core.principal import Principal, Scope
from app.db.engine import Transaction
from app.services import auth
from app.services.runtime import Runtime

_bearer = HTTPBearer(auto_error=False, description="An API key: `ibid_<public part>_<secret>`.")
_key_header = APIKeyHeader(
    name="X-API-Key", auto_error=False, description="The same API key in its own header."
)


async def get_runtime(request: Request) -> Runtime:
    runtime = request.app.state.runtime
    assert isinstance(runtime, Runtime)
    return runtime


RuntimeDep = Annotated[Runtime, Depends(get_runtime)]


async def get_principal(
    runtime: RuntimeDep,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    key: Annotated[str | None, Security(_key_header)],
) -> Principal:
    """The caller. Raises Unauthenticated."""
    credential = bearer.credentials if bearer else key
    if not credential:
        raise Unauthenticated
    principal = await auth.authenticate_key(runtime.database, credential)
    bind_contextvars(organization_id=principal.organization_id, principal_id=principal.id)
    return principal


def require(scope: Scope) -> Callable[[Principal], Coroutine[Any, Any, Principal]]:
    """The caller, who must carry the scope. Raises Unauthenticated or MissingScope."""

    async def checked(principal: Annotated[Principal, Depends(get_principal)]) -> Principal:
        auth.require_scope(principal, scope)
        return principal

    return checked


ChatPrincipal = Annotated[Principal, Depends(require(Scope.CHAT))]
SearchPrincipal = Annotated[Principal, Depends(require(Scope.SEARCH))]
IngestPrincipal = Annotated[Principal, Depends(require(Scope.INGEST))]
ReadPrincipal = Annotated[Principal, Depends(require(Scope.READ))]
ManagePrincipal = Annotated[Principal, Depends(require(Scope.MANAGE))]


async def get_transaction(
    runtime: RuntimeDep, principal: Annotated[Principal, Depends(get_principal)]
) -> AsyncIterator[Transaction]:
    """One transaction a request: committed before the answer is sent, rolled back on any error."""
    async with runtime.database.unit_of_work(principal) as session:
        yield session


TransactionDep = Annotated[Transaction, Depends(get_transaction, scope="function")]
"""With the default scope FastAPI would answer before the commit."""
