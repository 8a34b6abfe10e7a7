"""Budgets: admins set them for their organization and whoever is in it, superadmins a ceiling above those."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from app.core import clock, cursor
from app.core.errors import ApiKeyNotFound, BudgetNotFound, Invalid, TooManyBudgets, UserNotFound
from app.core.principal import SYSTEM, Principal
from app.core.usage import BudgetPeriod, BudgetState, BudgetSubject, NewBudget, Payer, Standing, period_end
from app.db.models import Budget
from app.db.repositories.api_keys import ApiKeyRepository
from app.db.repositories.budgets import BudgetRepository
from app.db.repositories.usage import UsageRepository
from app.db.repositories.users import UserRepository
from app.services import auth, bots
from app.services.runtime import Runtime

_MOST_BUDGETS: Final = 1_000
_NOTHING: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class BudgetView:
    """A budget with the subjects that have taken most of it in the present period."""

    budget: Budget
    spending: Sequence[Standing]

    @property
    def state(self) -> BudgetState:
        """Of the subject that has taken most."""
        return self.spending[0].state if self.spending else BudgetState.OK

    @property
    def resets_at(self) -> datetime:
        return period_end(BudgetPeriod(self.budget.period), clock.now())


async def newest(
    runtime: Runtime, principal: Principal, *, limit: int, after: str | None, offset: int
) -> tuple[list[BudgetView], str | None]:
    """A page of the organization's budgets, newest first, and the cursor of the next one. Raises InvalidCursor."""
    position = cursor.decode(after) if after else None
    async with runtime.database.unit_of_work(principal) as session:
        budgets = BudgetRepository(session, principal)
        rows = await budgets.newest(limit=limit + 1, after=position, offset=offset)
        page = rows[:limit]
        spending = await budgets.spending([row.id for row in page])
    following = cursor.encode(page[-1].created_at, page[-1].id) if len(rows) > limit else None
    return [_view(row, spending) for row in page], following


async def get(runtime: Runtime, principal: Principal, budget_id: str) -> BudgetView:
    """Raises BudgetNotFound."""
    async with runtime.database.unit_of_work(principal) as session:
        budgets = BudgetRepository(session, principal)
        budget = await budgets.find(budget_id)
        if budget is None:
            raise BudgetNotFound
        return _view(budget, await budgets.spending([budget_id]))


async def create(runtime: Runtime, principal: Principal, wanted: NewBudget) -> BudgetView:
    """A budget that counts from the beginning of its present period, what is spent of that already included.

    Raises SuperadminRequired for a ceiling; BudgetExists, TooManyBudgets, UserNotFound, ApiKeyNotFound or BotNotFound.
    """
    if wanted.ceiling:
        auth.require_superadmin(principal)
        if wanted.subject is not BudgetSubject.ORGANIZATION:
            raise Invalid("A ceiling is the organization's.")
    await _require_subject(runtime, principal, wanted)
    async with runtime.database.unit_of_work(principal) as session:
        budgets = BudgetRepository(session, principal)
        if await budgets.count() >= _MOST_BUDGETS:
            raise TooManyBudgets(details={"limit": _MOST_BUDGETS})
        budget = await budgets.add(wanted)
        await UsageRepository(session, principal).settle(
            _payer(principal, wanted), budget.id, tokens=0, usd=_NOTHING
        )
        view = _view(budget, await budgets.spending([budget.id]))
    runtime.budget_facts.forget()
    return view


async def change(
    runtime: Runtime, principal: Principal, budget_id: str, values: Mapping[str, Any]
) -> BudgetView:
    """Set its limits anew. Raises BudgetNotFound, SuperadminRequired for a ceiling, Invalid when no limit is left."""
    async with runtime.database.unit_of_work(principal) as session:
        budgets = BudgetRepository(session, principal)
        budget = await budgets.find(budget_id, lock=True)
        if budget is None:
            raise BudgetNotFound
        if budget.ceiling:
            auth.require_superadmin(principal)
        limits = {"max_tokens": budget.max_tokens, "max_cost_usd": budget.max_cost_usd, **values}
        if all(limit is None for limit in limits.values()):
            raise Invalid("A budget limits tokens, money or both; delete it to lift the limit.")
        changed = await budgets.change(budget_id, limits)
        assert changed is not None, "it is locked"
        return _view(changed, await budgets.spending([budget_id]))


async def delete(runtime: Runtime, principal: Principal, budget_id: str) -> None:
    """Lift a limit. Raises BudgetNotFound, SuperadminRequired for a ceiling."""
    async with runtime.database.unit_of_work(principal) as session:
        budgets = BudgetRepository(session, principal)
        budget = await budgets.find(budget_id, lock=True)
        if budget is None:
            raise BudgetNotFound
        if budget.ceiling:
            auth.require_superadmin(principal)
        await budgets.delete(budget_id)


async def _require_subject(runtime: Runtime, principal: Principal, wanted: NewBudget) -> None:
    """Raise what says that there is no such bot, user or key in the organization."""
    if wanted.subject_id is None:
        return
    if wanted.subject is BudgetSubject.ORGANIZATION:
        raise Invalid("The organization's budget has no subject_id.")
    if wanted.subject is BudgetSubject.BOT:
        await bots.resolve(runtime, principal, wanted.subject_id)
        return
    async with runtime.database.unit_of_work(SYSTEM) as session:
        if wanted.subject is BudgetSubject.USER:
            if await UserRepository(session, principal).find(wanted.subject_id) is None:
                raise UserNotFound
        elif await ApiKeyRepository(session, principal).find(wanted.subject_id) is None:
            raise ApiKeyNotFound


def _payer(principal: Principal, wanted: NewBudget) -> Payer:
    """Whoever's calls would count to it."""
    kinds = {BudgetSubject.USER: "user", BudgetSubject.KEY: "api_key"}
    bot_id = wanted.subject_id if wanted.subject is BudgetSubject.BOT else None
    caller_id = (wanted.subject_id or "") if wanted.subject in kinds else ""
    kind = kinds.get(wanted.subject, "") if caller_id else ""
    return Payer(principal.organization, kind, caller_id, bot_id)


def _view(budget: Budget, spending: Sequence[Standing]) -> BudgetView:
    return BudgetView(budget, [taken for taken in spending if taken.budget_id == budget.id])
