"""What repositories share: the transaction and whose it is."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.core.principal import Principal


class Repository:
    """Scoped by construction: every query of a subclass names `self.organization_id`."""

    def __init__(self, session: AsyncSession, principal: Principal) -> None:
        self.session = session
        self.principal = principal

    @property
    def organization_id(self) -> str:
        return self.principal.organization


def one_of(column: InstrumentedAttribute[Any], values: Collection[str]) -> ColumnElement[bool]:
    """`column = ANY(values)` with one parameter, however many values there are."""
    array = bindparam(None, sorted(values), ARRAY(Text))
    condition: ColumnElement[bool] = column == func.any(array)
    return condition
