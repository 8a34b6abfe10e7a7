"""What repositories share: the transaction and whose it is."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.principal import Principal


class Repository:
    """Scoped by construction: every query of a subclass names `self.organization_id`."""

    def __init__(self, session: AsyncSession, principal: Principal) -> None:
        self.session = session
        self.principal = principal

    @property
    def organization_id(self) -> str:
        return self.principal.organization
