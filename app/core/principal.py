"""Who is asking: the value that every service and every transaction gets."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    SUPERADMIN = "superadmin"
    ADMIN = "admin"
    USER = "user"


class Scope(StrEnum):
    CHAT = "chat"
    SEARCH = "search"
    INGEST = "ingest"
    READ = "read"
    MANAGE = "manage"


ALL_SCOPES: Final = frozenset(Scope)
USER_SCOPES: Final = ALL_SCOPES - {Scope.MANAGE}


def scopes_of(role: Role) -> frozenset[Scope]:
    """What a user of this role may do."""
    return USER_SCOPES if role is Role.USER else ALL_SCOPES


class PrincipalKind(StrEnum):
    USER = "user"
    API_KEY = "api_key"
    OPERATOR = "operator"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller within one organization, or the system itself (`organization_id` None: no row-level wall).

    `collection_ids` are those that an API key is restricted to, None does not restrict; `rate_limit` is its own. `bot_id`
    is the only bot that it may talk to.

    Of one whose API key was live a moment ago, and may not be by now, `once_proven` is what it is when it still is: until
    somebody has asked, no transaction can be had for it but the one that asks.
    """

    kind: PrincipalKind
    id: str
    organization_id: str | None
    role: Role
    scopes: frozenset[Scope]
    collection_ids: frozenset[str] | None = None
    rate_limit: str | None = None
    bot_id: str | None = None
    once_proven: "Principal | None" = field(default=None, compare=False, repr=False)

    @property
    def is_unproven(self) -> bool:
        return self.once_proven is not None

    def proven(self) -> "Principal":
        """The same, known to be let in now."""
        return self.once_proven or self

    @property
    def organization(self) -> str:
        """The organization that everything this caller makes belongs to.

        Raises RuntimeError for the system principal, which owns nothing.
        """
        if self.organization_id is None:
            raise RuntimeError("the system principal belongs to no organization")
        return self.organization_id


def worker_of(organization_id: str) -> Principal:
    """The worker as one who acts in a document's organization, and behind its wall."""
    return Principal(PrincipalKind.OPERATOR, "worker", organization_id, Role.ADMIN, ALL_SCOPES)


SYSTEM: Final = Principal(PrincipalKind.SYSTEM, "system", None, Role.SUPERADMIN, ALL_SCOPES)
"""For start-up, migrations of data and the look-up of credentials; never made from a request."""
