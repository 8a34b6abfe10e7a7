"""Budgets of an organization: what was decided, and who has taken how much of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete, func, insert, select, text, tuple_, update
from sqlalchemy.exc import IntegrityError

from app.core import ids
from app.core.errors import BudgetExists
from app.core.usage import NewBudget, Standing
from app.db.models import Budget
from app.db.repositories.base import Repository
from app.db.repositories.usage import IS_PRESENT, STANDING, standing_of

_MOST_SUBJECTS: Final = 10

_SPENDING: Final = text(f"""
SELECT taken.* FROM unnest(CAST(:ids AS text[])) AS wanted (id)
 CROSS JOIN LATERAL (
   SELECT {STANDING} FROM budgets b JOIN budget_spending s ON s.budget_id = b.id
    WHERE b.organization_id = :organization_id AND b.id = wanted.id AND {IS_PRESENT}
    ORDER BY greatest(s.spent_usd / nullif(b.max_cost_usd, 0), s.spent_tokens / nullif(b.max_tokens, 0)::numeric) DESC,
             s.subject_id
    LIMIT :most
 ) AS taken
""")


class BudgetRepository(Repository):
    async def find(self, budget_id: str, *, lock: bool = False) -> Budget | None:
        query = select(Budget).where(Budget.organization_id == self.organization_id, Budget.id == budget_id)
        result: Budget | None = await self.session.scalar(query.with_for_update() if lock else query)
        return result

    async def newest(
        self, *, limit: int, after: tuple[datetime, str] | None, offset: int
    ) -> Sequence[Budget]:
        query = select(Budget).where(Budget.organization_id == self.organization_id)
        if after is not None:
            query = query.where(tuple_(Budget.created_at, Budget.id) < after)
        query = query.order_by(Budget.created_at.desc(), Budget.id.desc()).limit(limit).offset(offset)
        return (await self.session.scalars(query)).all()

    async def count(self) -> int:
        query = select(func.count()).where(Budget.organization_id == self.organization_id)
        return await self.session.scalar(query) or 0

    async def add(self, wanted: NewBudget) -> Budget:
        """Raises BudgetExists."""
        values = {name: getattr(wanted, name) for name in NewBudget.__slots__}
        try:
            result = await self.session.scalars(
                insert(Budget)
                .values(id=ids.new(ids.Prefix.BUDGET), organization_id=self.organization_id, **values)
                .returning(Budget)
            )
        except IntegrityError as error:
            if "uq_budgets_subject" in str(error.orig):
                raise BudgetExists from error
            raise
        return result.one()

    async def change(self, budget_id: str, values: Mapping[str, Any]) -> Budget | None:
        result: Budget | None = await self.session.scalar(
            update(Budget)
            .where(Budget.organization_id == self.organization_id, Budget.id == budget_id)
            .values(**values)
            .returning(Budget)
            .execution_options(populate_existing=True)
        )
        return result

    async def delete(self, budget_id: str) -> bool:
        """Also what is spent and reserved of it. False when there is no such budget."""
        deleted = await self.session.scalar(
            delete(Budget)
            .where(Budget.organization_id == self.organization_id, Budget.id == budget_id)
            .returning(Budget.id)
        )
        return deleted is not None

    async def spending(self, budget_ids: Sequence[str]) -> list[Standing]:
        """In the present period, of each budget the ten subjects that have taken most."""
        rows = await self.session.execute(
            _SPENDING,
            {"organization_id": self.organization_id, "ids": list(budget_ids), "most": _MOST_SUBJECTS},
        )
        return [standing_of(row) for row in rows]
