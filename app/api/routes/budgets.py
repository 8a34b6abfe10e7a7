"""Budgets of the organization, and of the bots, users and keys in it."""

from fastapi import APIRouter, Request, Response

from app.api.deps import ManagePrincipal, RuntimeDep
from app.api.paging import Cursor, Limit, Offset, link_next
from app.api.schemas.base import OpaqueId
from app.api.schemas.budgets import BudgetChange, BudgetCreate, BudgetResponse, SpendingResponse
from app.core.usage import BudgetSubject, NewBudget, in_dollars
from app.services import budgets

router = APIRouter(prefix="/budgets", tags=["usage"])


@router.get("")
async def list_budgets(
    request: Request,
    response: Response,
    runtime: RuntimeDep,
    principal: ManagePrincipal,
    limit: Limit = 50,
    cursor: Cursor = None,
    offset: Offset = 0,
) -> list[BudgetResponse]:
    """The organization's budgets with what is spent of them, newest first."""
    page, following = await budgets.newest(runtime, principal, limit=limit, after=cursor, offset=offset)
    if following:
        link_next(request, response, cursor=following, offset=0)
    return [_response(view) for view in page]


@router.post("", status_code=201)
async def create_budget(
    body: BudgetCreate, runtime: RuntimeDep, principal: ManagePrincipal
) -> BudgetResponse:
    """Limit what may be spent in a day or a month; what the present one has seen already counts."""
    wanted = NewBudget(**{name: getattr(body, name) for name in NewBudget.__slots__})
    return _response(await budgets.create(runtime, principal, wanted))


@router.get("/{budget_id}")
async def get_budget(budget_id: OpaqueId, runtime: RuntimeDep, principal: ManagePrincipal) -> BudgetResponse:
    """One budget."""
    return _response(await budgets.get(runtime, principal, budget_id))


@router.patch("/{budget_id}")
async def change_budget(
    budget_id: OpaqueId, body: BudgetChange, runtime: RuntimeDep, principal: ManagePrincipal
) -> BudgetResponse:
    """Set its limits anew; null lifts one of two. It holds at once, everywhere."""
    return _response(await budgets.change(runtime, principal, budget_id, body.given))


@router.delete("/{budget_id}", status_code=204)
async def delete_budget(budget_id: OpaqueId, runtime: RuntimeDep, principal: ManagePrincipal) -> None:
    """Lift the limit. What was spent stays in the ledger."""
    await budgets.delete(runtime, principal, budget_id)


def _response(view: budgets.BudgetView) -> BudgetResponse:
    budget = view.budget
    return BudgetResponse(
        id=budget.id,
        subject=BudgetSubject(budget.subject),
        subject_id=budget.subject_id,
        period=budget.period,
        max_tokens=budget.max_tokens,
        max_cost_usd=None if budget.max_cost_usd is None else in_dollars(budget.max_cost_usd),
        ceiling=budget.ceiling,
        state=view.state,
        spending=[
            SpendingResponse(
                subject_id=taken.subject_id,
                spent_tokens=taken.spent_tokens,
                spent_usd=in_dollars(taken.spent_usd),
                reserved_tokens=taken.reserved_tokens,
                reserved_usd=in_dollars(taken.reserved_usd),
                state=taken.state,
            )
            for taken in view.spending
        ],
        resets_at=view.resets_at,
        created_at=budget.created_at,
        updated_at=budget.updated_at,
    )
