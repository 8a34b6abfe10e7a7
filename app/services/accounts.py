"""One's own account, as one sees it."""

from dataclasses import dataclass
from datetime import datetime

from app.core.errors import Unauthenticated
from app.core.principal import SYSTEM, Role, Scope
from app.db.engine import Transaction
from app.db.models import User
from app.db.repositories.accounts import AccountRepository
from app.services.auth import Caller
from app.services.runtime import Runtime


@dataclass(frozen=True, slots=True)
class OwnAccount:
    """The account of a caller, with what they may do in the present organization."""

    id: str
    organization_id: str
    email: str
    name: str
    role: Role
    scopes: list[Scope]
    totp_enabled: bool
    totp_enrolment_required: bool
    recovery_codes_left: int
    created_at: datetime


async def own(runtime: Runtime, caller: Caller) -> OwnAccount:
    """The caller's own account."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        user = await AccountRepository(session).find(caller.principal.id)
        if user is None:
            raise Unauthenticated
        return await _shown(session, caller, user)


async def rename(runtime: Runtime, caller: Caller, *, name: str) -> OwnAccount:
    """Change the caller's name."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        user = await AccountRepository(session).set_name(caller.principal.id, name)
        return await _shown(session, caller, user)


async def _shown(session: Transaction, caller: Caller, user: User) -> OwnAccount:
    return OwnAccount(
        id=user.id,
        organization_id=user.organization_id,
        email=user.email,
        name=user.name,
        role=Role(user.role),
        scopes=sorted(caller.principal.scopes),
        totp_enabled=user.totp_enabled,
        totp_enrolment_required=caller.lacks_totp,
        recovery_codes_left=await AccountRepository(session).count_recovery_codes(user.id),
        created_at=user.created_at,
    )
