"""Organizations, users and keys, before it is known who is asking: used by the system principal only."""

from sqlalchemy import exists, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import ids
from app.core.principal import Role, Scope
from app.db.models import ApiKey, Collection, Organization, User


class IdentityRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def first_organization_id(self) -> str | None:
        """The oldest organization, which is the default one."""
        result: str | None = await self.session.scalar(
            select(Organization.id).order_by(Organization.created_at, Organization.id).limit(1)
        )
        return result

    async def is_empty(self) -> bool:
        """Whether nobody has been set up yet; holds off other processes that ask until this transaction ends."""
        await self.session.execute(text("SELECT pg_advisory_xact_lock(hashtext('ibid first run'))"))
        return not await self.session.scalar(select(exists().where(Organization.id.is_not(None))))

    async def add_organization(self, name: str) -> str:
        """An organization with its default collection; returns the organization's id."""
        organization = Organization(id=ids.new(ids.Prefix.ORGANIZATION), name=name)
        self.session.add(organization)
        await self.session.flush()
        self.session.add(
            Collection(
                id=ids.new(ids.Prefix.COLLECTION),
                organization_id=organization.id,
                name="General",
                is_default=True,
            )
        )
        return organization.id

    async def add_user(self, *, organization_id: str, email: str, password_hash: str, role: Role) -> str:
        user = User(
            id=ids.new(ids.Prefix.USER),
            organization_id=organization_id,
            email=email,
            password_hash=password_hash,
            role=role,
        )
        self.session.add(user)
        await self.session.flush()
        return user.id

    async def add_key(
        self,
        *,
        organization_id: str,
        name: str,
        public_part: str,
        secret_hash: str,
        scopes: frozenset[Scope],
        created_by: str | None,
    ) -> str:
        key = ApiKey(
            id=ids.new(ids.Prefix.API_KEY),
            organization_id=organization_id,
            name=name,
            public_part=public_part,
            secret_hash=secret_hash,
            scopes=sorted(scopes),
            created_by=created_by,
        )
        self.session.add(key)
        await self.session.flush()
        return key.id
