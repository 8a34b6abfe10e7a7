"""Bots of the caller's organization: looked up for a question, listed and changed by those who manage them."""

import json
from collections.abc import Collection as Ids
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, func, insert, or_, select, text, tuple_, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import ids
from app.core.access import Visibility
from app.core.errors import BotNameTaken, CollectionNotFound
from app.db.models import Bot, BotCollection, BotUser, BotVersion
from app.db.repositories.base import Repository, TextRepository, known_users, one_of

_IN_USE: Final = text("""
SELECT b.name, b.all_collections, v.id AS version_id,
       CASE WHEN v.id = CAST(:known AS text) THEN NULL ELSE CAST(v.settings AS text) END AS settings,
       CASE WHEN v.id = CAST(:known AS text) THEN NULL ELSE CAST(v.secrets AS text) END AS secrets,
       ARRAY(SELECT c.collection_id FROM bot_collections c
              WHERE c.organization_id = b.organization_id AND c.bot_id = b.id
              ORDER BY c.collection_id) AS collection_ids
  FROM bots b
  JOIN bot_versions v ON v.organization_id = b.organization_id AND v.bot_id = b.id AND v.number = b.version
 WHERE b.organization_id = :organization_id AND b.id = :bot_id
   AND (CAST(:user_id AS text) IS NULL OR b.visibility = 'organization'
        OR EXISTS (SELECT FROM bot_users u
                    WHERE u.organization_id = b.organization_id AND u.bot_id = b.id AND u.user_id = :user_id))
""")


@dataclass(frozen=True, slots=True)
class BotInUse:
    """The version of a bot that answers. `settings` and `secrets` are None for a version that is known already."""

    name: str
    version_id: str
    settings: Mapping[str, Any] | None
    secrets: Mapping[str, Any] | None = field(repr=False)
    collection_ids: tuple[str, ...] | None


class BotUseRepository(TextRepository):
    """What a question needs of its bot: one statement, with every such question."""

    async def in_use(self, bot_id: str, *, user_id: str | None, known: str | None) -> BotInUse | None:
        """The bot, if there is one that this user may use; `user_id` None may use all of the organization's."""
        row = (
            await self.session.execute(
                _IN_USE,
                {
                    "organization_id": self.organization_id,
                    "bot_id": bot_id,
                    "user_id": user_id,
                    "known": known,
                },
            )
        ).one_or_none()
        if row is None:
            return None
        return BotInUse(
            row.name,
            row.version_id,
            None if row.settings is None else json.loads(row.settings),
            None if row.secrets is None else json.loads(row.secrets),
            None if row.all_collections else tuple(row.collection_ids),
        )


class BotRepository(Repository):
    async def find(self, bot_id: str, *, user_id: str | None = None, lock: bool = False) -> Bot | None:
        """The bot, if this user may use it; None may use all. `lock` holds off every change until the transaction ends."""
        query = self._usable(user_id).where(Bot.id == bot_id)
        found: Bot | None = await self.session.scalar(query.with_for_update() if lock else query)
        return found

    async def newest(
        self, *, limit: int, after: tuple[datetime, str] | None, offset: int, user_id: str | None
    ) -> Sequence[Bot]:
        """A page of those that this user may use, newest first."""
        query = self._usable(user_id)
        if after is not None:
            query = query.where(tuple_(Bot.created_at, Bot.id) < after)
        query = query.order_by(Bot.created_at.desc(), Bot.id.desc())
        return (await self.session.scalars(query.limit(limit).offset(offset))).all()

    async def add(self, values: Mapping[str, Any]) -> Bot:
        """A bot, yet without a version. Raises BotNameTaken."""
        row = {
            "id": ids.new(ids.Prefix.BOT),
            "organization_id": self.organization_id,
            "created_by": self.principal.id,
            **values,
        }
        with _own_name():
            made: Bot = (await self.session.scalars(insert(Bot).returning(Bot), row)).one()
        return made

    async def change(self, bot_id: str, values: Mapping[str, Any]) -> Bot | None:
        """Set columns and count the revision; None when the bot is gone. Raises BotNameTaken."""
        with _own_name():
            changed: Bot | None = await self.session.scalar(
                update(Bot)
                .where(Bot.organization_id == self.organization_id, Bot.id == bot_id)
                .values(updated_at=func.now(), revision=Bot.revision + 1, **values)
                .returning(Bot)
                .execution_options(populate_existing=True)
            )
        return changed

    async def delete(self, bot_id: str) -> bool:
        """Delete with versions, lists and bound keys, whose foreign keys cascade; False when there is none."""
        deleted = await self.session.scalar(
            delete(Bot).where(Bot.organization_id == self.organization_id, Bot.id == bot_id).returning(Bot.id)
        )
        return deleted is not None

    def _usable(self, user_id: str | None) -> Any:
        query = select(Bot).where(Bot.organization_id == self.organization_id)
        return query if user_id is None else query.where(self._open_to(user_id))

    def _open_to(self, user_id: str) -> ColumnElement[bool]:
        listed = select(BotUser.bot_id).where(
            BotUser.organization_id == self.organization_id, BotUser.user_id == user_id
        )
        return or_(Bot.visibility == Visibility.ORGANIZATION, Bot.id.in_(listed))


class BotVersionRepository(Repository):
    async def add(
        self, bot_id: str, number: int, *, settings: Mapping[str, Any], secrets: Mapping[str, Any], note: str
    ) -> BotVersion:
        row = {
            "id": ids.new(ids.Prefix.BOT_VERSION),
            "organization_id": self.organization_id,
            "bot_id": bot_id,
            "number": number,
            "settings": dict(settings),
            "secrets": dict(secrets),
            "note": note,
            "created_by": self.principal.id,
        }
        made: BotVersion = (await self.session.scalars(insert(BotVersion).returning(BotVersion), row)).one()
        return made

    async def find(self, bot_id: str, number: int) -> BotVersion | None:
        found: BotVersion | None = await self.session.scalar(
            select(BotVersion).where(
                BotVersion.organization_id == self.organization_id,
                BotVersion.bot_id == bot_id,
                BotVersion.number == number,
            )
        )
        return found

    async def newest(self, bot_id: str, *, limit: int, offset: int) -> Sequence[BotVersion]:
        """A page of a bot's versions, newest first."""
        query = select(BotVersion).where(
            BotVersion.organization_id == self.organization_id, BotVersion.bot_id == bot_id
        )
        return (
            await self.session.scalars(query.order_by(BotVersion.number.desc()).limit(limit).offset(offset))
        ).all()

    async def in_use(self, bot_ids: Ids[str]) -> dict[str, BotVersion]:
        """The version of each bot that answers."""
        rows = await self.session.scalars(
            select(BotVersion)
            .join(
                Bot,
                (Bot.organization_id == BotVersion.organization_id)
                & (Bot.id == BotVersion.bot_id)
                & (Bot.version == BotVersion.number),
            )
            .where(
                BotVersion.organization_id == self.organization_id,
                one_of(BotVersion.bot_id, bot_ids),
            )
        )
        return {version.bot_id: version for version in rows}


class BotListRepository(Repository):
    """The lists of a bot: the collections that it answers from, the users who may use it."""

    async def collections(self, bot_ids: Ids[str]) -> dict[str, list[str]]:
        """The collections of each bot that has any."""
        rows = await self.session.execute(
            select(BotCollection.bot_id, BotCollection.collection_id)
            .where(
                BotCollection.organization_id == self.organization_id,
                one_of(BotCollection.bot_id, bot_ids),
            )
            .order_by(BotCollection.collection_id)
        )
        found: dict[str, list[str]] = {}
        for bot_id, collection_id in rows:
            found.setdefault(bot_id, []).append(collection_id)
        return found

    async def set_collections(self, bot_id: str, collection_ids: Ids[str]) -> None:
        """Make these the whole list. Raises CollectionNotFound for one that is not of the organization."""
        await self.session.execute(
            delete(BotCollection).where(
                BotCollection.organization_id == self.organization_id,
                BotCollection.bot_id == bot_id,
                ~one_of(BotCollection.collection_id, collection_ids),
            )
        )
        rows = [
            {"bot_id": bot_id, "collection_id": collection_id, "organization_id": self.organization_id}
            for collection_id in sorted(collection_ids)
        ]
        if rows:
            with _known_collections():
                await self.session.execute(
                    postgresql.insert(BotCollection).values(rows).on_conflict_do_nothing()
                )

    async def users(self, bot_id: str, *, limit: int, offset: int) -> Sequence[BotUser]:
        """A page of those who may use a restricted bot, newest first."""
        return (
            await self.session.scalars(
                select(BotUser)
                .where(BotUser.organization_id == self.organization_id, BotUser.bot_id == bot_id)
                .order_by(BotUser.created_at.desc(), BotUser.user_id.desc())
                .limit(limit)
                .offset(offset)
            )
        ).all()

    async def add_users(self, bot_id: str, user_ids: Ids[str]) -> None:
        """Put users on the list. Raises UserNotFound for one who is not of the organization."""
        rows = [
            {"bot_id": bot_id, "user_id": user_id, "organization_id": self.organization_id}
            for user_id in sorted(user_ids)
        ]
        with known_users():
            await self.session.execute(postgresql.insert(BotUser).values(rows).on_conflict_do_nothing())

    async def remove_user(self, bot_id: str, user_id: str) -> bool:
        """Take a user off the list; False when not on it."""
        removed = await self.session.scalar(
            delete(BotUser)
            .where(
                BotUser.organization_id == self.organization_id,
                BotUser.bot_id == bot_id,
                BotUser.user_id == user_id,
            )
            .returning(BotUser.user_id)
        )
        return removed is not None

    async def remove_other_users(self, bot_id: str, *, keep: Ids[str]) -> None:
        """Take everybody off the list but those to `keep`."""
        await self.session.execute(
            delete(BotUser).where(
                BotUser.organization_id == self.organization_id,
                BotUser.bot_id == bot_id,
                ~one_of(BotUser.user_id, keep),
            )
        )


class BotSecretsRepository:
    """The encrypted keys of all bots, for the system principal."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def all(self) -> Sequence[tuple[str, dict[str, Any]]]:
        """The id of each version that has any, and its keys."""
        rows = await self.session.execute(
            select(BotVersion.id, BotVersion.secrets).where(BotVersion.secrets != {}).order_by(BotVersion.id)
        )
        return [(version_id, secrets) for version_id, secrets in rows]

    async def replace(self, version_id: str, *, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """Swap the keys of a version, unless somebody has done so meanwhile."""
        await self.session.execute(
            update(BotVersion)
            .where(BotVersion.id == version_id, BotVersion.secrets == dict(old))
            .values(secrets=dict(new))
        )


@contextmanager
def _own_name() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        if "uq_bots_name" in str(error.orig):
            raise BotNameTaken from error
        raise


@contextmanager
def _known_collections() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        if "_id_collections" in str(error.orig):
            raise CollectionNotFound from error
        raise
