"""What a caller may see and change: decided here, and asked by everything that touches documents or collections.

Admins, and API keys without a list of collections, reach everything in their organization, personal collections
included. A user reaches the collections that are open to the organization, those with the user on their list, and the
user's own personal one. The files of a session are its owner's alone, whoever asks, and are found only where they or their collection
are named. What somebody can't see does not exist for them: the error is that of an unknown id.
"""

from collections.abc import Collection as Ids
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from app.core import ids
from app.core.access import Level
from app.core.errors import (
    AdminsOnly,
    CollectionNotFound,
    CollectionReadOnly,
    CollectionRequired,
    DocumentNotFound,
    DocumentReadOnly,
)
from app.core.principal import Principal, PrincipalKind, Role
from app.db.engine import AnyTransaction, Transaction
from app.db.models import Collection, Document
from app.db.repositories.collections import CollectionRepository
from app.db.repositories.documents import DocumentRepository
from app.db.repositories.places import PlaceRepository
from app.db.repositories.visibility import VisibilityRepository

_PERSONAL_NAME: Final = "Personal"


@dataclass(frozen=True, slots=True)
class Reach:
    """A caller's collections and what may be done in each; `levels` None is everything in the organization."""

    principal: Principal
    levels: Mapping[str, Level] | None

    @property
    def visible(self) -> frozenset[str] | None:
        return None if self.levels is None else frozenset(self.levels)

    def level(self, collection_id: str) -> Level | None:
        """How far the caller reaches in a collection that they have found; None where it does not exist for them.

        Of sessions they find only their own.
        """
        if self.levels is None or ids.is_of_session(collection_id):
            return Level.WRITE
        return self.levels.get(collection_id)


def is_plain_user(principal: Principal) -> bool:
    """Whether the caller is a person who sees only what is shared with them."""
    return principal.kind is PrincipalKind.USER and principal.role is Role.USER


def restricted_user_id(principal: Principal) -> str | None:
    """Who must be on the list of what is restricted; None for those who need not be."""
    return principal.id if is_plain_user(principal) else None


def require_admin(principal: Principal) -> None:
    """Raise AdminsOnly for a plain user, whatever scopes the credential carries."""
    if is_plain_user(principal):
        raise AdminsOnly


async def reach_of(session: AnyTransaction, principal: Principal) -> Reach:
    """What the caller reaches at this moment: one statement, or none for those who reach everything."""
    visibility = VisibilityRepository(session, principal)
    levels = await visibility.of_user() if is_plain_user(principal) else None
    if principal.collection_ids is None:
        return Reach(principal, levels)
    if levels is None:
        return Reach(principal, await visibility.existing(principal.collection_ids))
    return Reach(principal, {key: level for key, level in levels.items() if key in principal.collection_ids})


async def search_scope(
    session: AnyTransaction,
    principal: Principal,
    requested: Ids[str] | None,
    *,
    granted: Ids[str] | None = None,
) -> tuple[str, ...] | None:
    """The collections to search: the requested ones, or all visible ones; None is the organization without a filter.

    `granted` are those of the bot that the caller may use: they, and no others, whatever the caller may see besides.
    An API key that is restricted to collections stays so. Raises CollectionNotFound when a requested one is not
    visible, or is none at all.
    """
    if granted is not None:
        return _within_grant(principal, requested, granted)
    reach = await reach_of(session, principal)
    if requested is None:
        return None if reach.levels is None else tuple(sorted(reach.levels))
    missing = set(requested) if reach.levels is None else set(requested) - reach.levels.keys()
    unknown = missing if reach.levels is None else set(filter(ids.is_of_session, missing))
    if unknown:
        missing -= (await VisibilityRepository(session, principal).existing(unknown)).keys()
    if missing:
        raise CollectionNotFound(details={"collection_ids": sorted(missing)})
    return tuple(requested)


def _within_grant(principal: Principal, requested: Ids[str] | None, granted: Ids[str]) -> tuple[str, ...]:
    allowed = frozenset(granted)
    if principal.collection_ids is not None:
        allowed &= principal.collection_ids
    if requested is None:
        return tuple(sorted(allowed))
    if missing := set(requested) - allowed:
        raise CollectionNotFound(details={"collection_ids": sorted(missing)})
    return tuple(requested)


async def collection(
    session: Transaction, reach: Reach, collection_id: str, *, lock: bool = False
) -> Collection:
    """A visible collection; `lock` holds off every change of it until the transaction ends. Raises CollectionNotFound."""
    collections = CollectionRepository(session, reach.principal)
    within = None if ids.is_of_session(collection_id) else reach.visible
    found = await collections.find(collection_id, within=within, lock=lock)
    if found is None or (found.session_id is not None and found.created_by != reach.principal.id):
        raise CollectionNotFound
    return found


async def require_place(session: AnyTransaction, reach: Reach, collection_id: str) -> None:
    """Make sure that the caller may add documents to the collection, which stays there until the transaction ends.

    Raises CollectionNotFound and CollectionReadOnly.
    """
    if not await PlaceRepository(session, reach.principal).keep(collection_id, within=reach.visible):
        raise CollectionNotFound
    if reach.level(collection_id) is Level.READ:
        raise CollectionReadOnly


async def home_id(session: AnyTransaction, reach: Reach) -> str:
    """Where documents go when no collection is named: a user's personal one (made on first use), else the default one.

    Raises CollectionRequired for an API key that is restricted to several others.
    """
    places = PlaceRepository(session, reach.principal)
    if is_plain_user(reach.principal) and reach.principal.collection_ids is None:
        return await places.personal_id(name=_PERSONAL_NAME)
    default_id = await places.default_id()
    if reach.levels is None or default_id in reach.levels:
        return default_id
    if len(reach.levels) != 1:
        raise CollectionRequired
    return next(iter(reach.levels))


async def document(session: Transaction, reach: Reach, document_id: str) -> Document:
    """A document in a visible collection. Raises DocumentNotFound."""
    found = await DocumentRepository(session, reach.principal).find(document_id, within=reach.visible)
    if found is None:
        raise DocumentNotFound
    return found


async def changeable_document(session: Transaction, reach: Reach, document_id: str) -> Document:
    """A document that the caller may change and delete, held as it is until the transaction ends.

    Raises DocumentNotFound, and DocumentReadOnly for one that somebody else put into a shared collection.
    """
    found = await DocumentRepository(session, reach.principal).find(
        document_id, within=reach.visible, lock=True
    )
    if found is None:
        raise DocumentNotFound
    level = reach.level(found.collection_id)
    own = level is Level.ADD and found.created_by == reach.principal.id
    if level is not Level.WRITE and not own:
        raise DocumentReadOnly
    return found
