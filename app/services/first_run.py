"""The first start on an empty database: the default organization, its superadmin and an API key."""

import asyncio
from dataclasses import dataclass, field

from app.core import security
from app.core.config import Settings
from app.core.errors import StartupError
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.db.engine import Database
from app.db.repositories.identity import IdentityRepository


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the first start made; shown once and stored only as hashes. `password` is None when it was given."""

    email: str
    password: str | None = field(repr=False)
    api_key: str = field(repr=False)


async def prepare(database: Database, settings: Settings) -> Credentials | None:
    """Set up an empty database; None when somebody has been set up already."""
    async with database.unit_of_work(SYSTEM) as session:
        identity = IdentityRepository(session)
        if not await identity.is_empty():
            return None
        given = settings.superadmin_password
        password = given.get_secret_value() if given else security.new_password()
        key = security.new_api_key()
        organization_id = await identity.add_organization(settings.organization_name)
        user_id = await identity.add_user(
            organization_id=organization_id,
            email=settings.superadmin_email,
            password_hash=await asyncio.to_thread(security.hash_password, password),
            role=Role.SUPERADMIN,
        )
        await identity.add_key(
            organization_id=organization_id,
            name="First key",
            public_part=key.public,
            secret_hash=key.secret_hash,
            scopes=ALL_SCOPES,
            created_by=user_id,
        )
    return Credentials(settings.superadmin_email, None if given else password, str(key))


async def operator(database: Database) -> Principal:
    """The one who sits at the machine and uses the command line: an admin of the default organization.

    Raises StartupError when there is none yet.
    """
    async with database.unit_of_work(SYSTEM) as session:
        organization_id = await IdentityRepository(session).first_organization_id()
    if organization_id is None:
        raise StartupError("There is no organization yet: start the service once with `ibid serve`.")
    return Principal(PrincipalKind.OPERATOR, "operator", organization_id, Role.ADMIN, ALL_SCOPES)
