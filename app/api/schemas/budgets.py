"""Budgets."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from app.api.schemas.base import OpaqueId, PartialModel, RequestModel, ResponseModel
from app.core.usage import BudgetPeriod, BudgetState, BudgetSubject

Tokens = Annotated[int, Field(ge=0, le=10**15, description="Prompt and answer together.")]
Money = Annotated[
    Decimal,
    Field(
        ge=0,
        le=10**9,
        max_digits=18,
        decimal_places=9,
        description="US dollars, by the providers' price lists.",
        examples=["25.00"],
    ),
]


class BudgetCreate(RequestModel):
    subject: BudgetSubject
    subject_id: OpaqueId | None = Field(
        None,
        description="Of a bot, user or key; left out, the budget is each one's own, and a named one stands in its place.",
    )
    period: BudgetPeriod = Field(description="Of the calendar, in UTC.")
    max_tokens: Tokens | None = None
    max_cost_usd: Money | None = None
    ceiling: bool = Field(
        False, description="For superadmins: of the organization, and not for its admins to change."
    )

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.max_tokens is None and self.max_cost_usd is None:
            raise ValueError("give max_tokens, max_cost_usd or both")
        return self


class BudgetChange(PartialModel):
    """Null lifts one of two limits."""

    clearable: ClassVar[frozenset[str]] = frozenset({"max_tokens", "max_cost_usd"})
    max_tokens: Tokens | None = None
    max_cost_usd: Money | None = None


class SpendingResponse(ResponseModel):
    subject_id: str | None = Field(description="null: the organization.")
    spent_tokens: int
    spent_usd: str
    reserved_tokens: int = Field(description="Held by answers under way.")
    reserved_usd: str
    state: BudgetState


class BudgetResponse(ResponseModel):
    id: str
    subject: BudgetSubject
    subject_id: str | None
    period: BudgetPeriod
    max_tokens: int | None
    max_cost_usd: str | None
    ceiling: bool
    state: BudgetState = Field(description="`warning` from 80 % on.")
    spending: list[SpendingResponse] = Field(description="Who has taken most in this period, at most ten.")
    resets_at: datetime
    created_at: datetime
    updated_at: datetime
