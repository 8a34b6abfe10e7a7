"""Who is asking: from a credential to a principal."""

from app.core import security
from app.core.errors import MissingScope, Unauthenticated
from app.core.principal import SYSTEM, Principal, PrincipalKind, Role, Scope
from app.db.engine import Database
from app.db.repositories.identity import IdentityRepository


async def authenticate_key(database: Database, credential: str) -> Principal:
    """The principal of an API key. Raises Unauthenticated for a missing, wrong, revoked or expired one alike."""
    key = security.parse_api_key(credential)
    if key is None:
        raise Unauthenticated
    async with database.unit_of_work(SYSTEM) as session:
        stored = await IdentityRepository(session).find_live_key(key.public)
    if stored is None or not key.matches(stored.secret_hash):
        raise Unauthenticated
    return Principal(PrincipalKind.API_KEY, stored.id, stored.organization_id, Role.ADMIN, stored.scopes)


def require_scope(principal: Principal, scope: Scope) -> None:
    """Raise MissingScope unless the credential carries the scope."""
    if scope not in principal.scopes:
        raise MissingScope(
            f"This API key lacks the scope '{scope}'.",
            details={"required": scope, "granted": sorted(principal.scopes)},
        )
