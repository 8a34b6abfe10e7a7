"""Collections and who may see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.core import cursor
from app.core.access import Permission, Visibility
from app.core.errors import (
    CollectionNotEmpty,
    CollectionNotFound,
    DefaultCollection,
    KeyIsRestricted,
    PersonalCollection,
    UserNotFound,
)
from app.core.principal import Principal
from app.db.engine import Transaction
from app.db.models import Collection, CollectionUser
from app.db.repositories.collections import AccessListRepository, CollectionRepository, Counts
from app.services import access


@dataclass(frozen=True, slots=True)
class Filled:
    """A collection and what is in it."""

    collection: Collection
    counts: Counts


async def newest(
    session: Transaction, principal: Principal, *, limit: int, after: str | None, offset: int
) -> tuple[list[Filled], str | None]:
    """A page of the collections that the caller sees, newest first, and the cursor of the next one (None at the end).

    Raises InvalidCursor.
    """
    reach = await access.reach_of(session, principal)
    collections = CollectionRepository(session, principal)
    found = await collections.newest(
        limit=limit + 1, after=cursor.decode(after) if after else None, offset=offset, within=reach.visible
    )
    page = found[:limit]
    counts = await collections.counts([collection.id for collection in page])
    filled = [Filled(collection, counts.get(collection.id, Counts())) for collection in page]
    more = len(found) > limit
    return filled, cursor.encode(page[-1].created_at, page[-1].id) if more else None


async def get(session: Transaction, principal: Principal, collection_id: str) -> Filled:
    """Raises CollectionNotFound."""
    reach = await access.reach_of(session, principal)
    return await _filled(session, principal, await access.collection(session, reach, collection_id))


async def create(
    session: Transaction,
    principal: Principal,
    *,
    name: str,
    description: str,
    visibility: Visibility,
    chunking: Mapping[str, Any],
) -> Filled:
    """`chunking` are the columns of the collection's own settings. Raises AdminsOnly, and KeyIsRestricted for a key that could not see what it makes."""
    access.require_admin(principal)
    if principal.collection_ids is not None:
        raise KeyIsRestricted
    collections = CollectionRepository(session, principal)
    made = await collections.add(name, description=description, visibility=visibility, chunking=chunking)
    return Filled(made, Counts())


async def change(
    session: Transaction, principal: Principal, collection_id: str, values: Mapping[str, Any]
) -> Filled:
    """Set name, description, visibility or the settings of chunking.

    Raises AdminsOnly, CollectionNotFound, and PersonalCollection where a personal one would be opened.
    """
    collection = await _managed(session, principal, collection_id)
    if _is_private(collection) and values.get("visibility") == Visibility.ORGANIZATION:
        raise PersonalCollection
    changed = await CollectionRepository(session, principal).change(collection_id, values)
    if changed is None:
        raise CollectionNotFound
    return await _filled(session, principal, changed)


async def delete(session: Transaction, principal: Principal, collection_id: str, *, force: bool) -> None:
    """Delete a collection, with `force` also the documents in it.

    Raises AdminsOnly, CollectionNotFound, DefaultCollection, and CollectionNotEmpty without `force`.
    """
    collection = await _managed(session, principal, collection_id)
    if collection.is_default:
        raise DefaultCollection
    if not force:
        counts = (await _filled(session, principal, collection)).counts
        if counts.documents:
            raise CollectionNotEmpty(details={"documents": counts.documents})
    await CollectionRepository(session, principal).delete(collection_id)


async def users(
    session: Transaction, principal: Principal, collection_id: str, *, limit: int, offset: int
) -> tuple[Sequence[CollectionUser], bool]:
    """A page of the access list, and whether there are more. Raises AdminsOnly and CollectionNotFound."""
    access.require_admin(principal)
    reach = await access.reach_of(session, principal)
    await access.collection(session, reach, collection_id)
    found = await AccessListRepository(session, principal).users(
        collection_id, limit=limit + 1, offset=offset
    )
    return found[:limit], len(found) > limit


async def grant(
    session: Transaction, principal: Principal, collection_id: str, user_id: str, permission: Permission
) -> None:
    """Put a user on the access list, or change what they may do.

    Raises AdminsOnly, CollectionNotFound, PersonalCollection and UserNotFound.
    """
    await _listed(session, principal, collection_id)
    await AccessListRepository(session, principal).grant(collection_id, {user_id: permission})


async def set_users(
    session: Transaction, principal: Principal, collection_id: str, permissions: Mapping[str, Permission]
) -> None:
    """Make this the whole access list. Raises what `grant` raises."""
    await _listed(session, principal, collection_id)
    lists = AccessListRepository(session, principal)
    await lists.revoke_others(collection_id, keep=permissions)
    if permissions:
        await lists.grant(collection_id, permissions)


async def revoke(session: Transaction, principal: Principal, collection_id: str, user_id: str) -> None:
    """Take a user off the access list. Raises AdminsOnly, CollectionNotFound, and UserNotFound when not on it."""
    await _managed(session, principal, collection_id)
    if not await AccessListRepository(session, principal).revoke(collection_id, user_id):
        raise UserNotFound


async def _managed(session: Transaction, principal: Principal, collection_id: str) -> Collection:
    """The collection, held as it is: nobody adds documents to it or changes its list until the transaction ends."""
    access.require_admin(principal)
    reach = await access.reach_of(session, principal)
    return await access.collection(session, reach, collection_id, lock=True)


async def _listed(session: Transaction, principal: Principal, collection_id: str) -> None:
    collection = await _managed(session, principal, collection_id)
    if _is_private(collection):
        raise PersonalCollection


def _is_private(collection: Collection) -> bool:
    return collection.owner_id is not None or collection.session_id is not None


async def _filled(session: Transaction, principal: Principal, collection: Collection) -> Filled:
    counts = await CollectionRepository(session, principal).counts([collection.id])
    return Filled(collection, counts.get(collection.id, Counts()))
