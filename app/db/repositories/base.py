"""What repositories share: the transaction and whose it is."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
from sqlalchemy import ColumnElement, Text, bindparam, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.core.errors import UserNotFound
from app.core.principal import Principal
from app.db.engine import AnyTransaction


class Scoped:
    """Scoped by construction: every query of a subclass names `self.organization_id`."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal

    @property
    def organization_id(self) -> str:
        return self.principal.organization


class Repository(Scoped):
    """With SQLAlchemy's ORM."""

    def __init__(self, session: AsyncSession, principal: Principal) -> None:
        super().__init__(principal)
        self.session = session


class TextRepository(Scoped):
    """Of textual statements alone, so that it works in a direct transaction too."""

    def __init__(self, session: AnyTransaction, principal: Principal) -> None:
        super().__init__(principal)
        self.session = session


@contextmanager
def known_users() -> Iterator[None]:
    """Raise UserNotFound for a user who is not of the organization: a foreign key says so, the users stay unread."""
    try:
        yield
    except (IntegrityError, asyncpg.IntegrityConstraintViolationError) as error:
        if "_id_users" in str(getattr(error, "orig", error)):
            raise UserNotFound from error
        raise


def one_of(column: InstrumentedAttribute[Any], values: Collection[str]) -> ColumnElement[bool]:
    """`column = ANY(values)` with one parameter, however many values there are."""
    array = bindparam(None, sorted(values), ARRAY(Text))
    condition: ColumnElement[bool] = column == func.any(array)
    return condition
