"""One-time tickets: what a browser opens a WebSocket connection with, whose address is all that it can choose.

A ticket stands for the credential that it was asked with, for half a minute and for one connection.
"""

import json
from datetime import timedelta
from typing import Final

from app.core import clock, security
from app.core.errors import Unauthenticated
from app.core.principal import SYSTEM, Principal
from app.db.engine import Transaction
from app.db.repositories import one_time
from app.services.runtime import Runtime

LIFETIME: Final = timedelta(seconds=30)


async def issue(
    runtime: Runtime, principal: Principal, credential: str, *, organization_id: str | None
) -> str:
    """A ticket for whoever has this credential, acting in this organization."""
    ticket = security.new_token()
    encrypted = runtime.keyring.encrypt(json.dumps([credential, organization_id]))
    async with runtime.database.unit_of_work(SYSTEM) as session:
        await one_time.add_socket_ticket(
            session,
            organization_id=principal.organization,
            token_hash=security.token_hash(ticket),
            credential_encrypted=encrypted,
            expires_at=clock.now() + LIFETIME,
        )
    return ticket


async def redeem(runtime: Runtime, ticket: str) -> tuple[str, str | None]:
    """The credential, and the organization to act in. Raises Unauthenticated; a second use is no use."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        encrypted = await one_time.use_socket_ticket(session, security.token_hash(ticket))
    if encrypted is None:
        raise Unauthenticated("The ticket is wrong, expired, or was used already; ask for a new one.")
    credential, organization_id = json.loads(runtime.keyring.decrypt(encrypted))
    return credential, organization_id


async def purge(session: Transaction) -> None:
    """Forget the tickets that nobody has used."""
    await one_time.forget_socket_tickets(session)
