"""What model calls took and cost."""

from datetime import datetime

from pydantic import Field

from app.api.schemas.base import ResponseModel
from app.core.usage import BudgetPeriod, BudgetState, BudgetSubject


class UsageSumResponse(ResponseModel):
    """Calls summed up. Of the groups, those that were asked for are there."""

    day: str | None = Field(None, examples=["2026-11-21"], description="In UTC.")
    bot: str | None = None
    user: str | None = None
    key: str | None = None
    model: str | None = None
    purpose: str | None = Field(None, examples=["answer"])
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: str
    estimated_calls: int = Field(description="Whose tokens are an estimate: the provider gave no count.")
    unpriced_calls: int = Field(description="Of models without a known price; not in `cost_usd`.")


class BudgetWarning(ResponseModel):
    """A budget of which 80 % or more is spent."""

    budget_id: str
    subject: BudgetSubject
    subject_id: str | None
    period: BudgetPeriod
    state: BudgetState
    max_tokens: int | None
    spent_tokens: int
    max_cost_usd: str | None
    spent_usd: str
    resets_at: datetime


class UsageResponse(ResponseModel):
    since: datetime = Field(serialization_alias="from")
    to: datetime
    total: UsageSumResponse
    rows: list[UsageSumResponse]
    warnings: list[BudgetWarning]
    kept_since: datetime | None = Field(
        description="Calls before this moment are deleted (USAGE_RETENTION_DAYS) and in no sum; null where all are kept."
    )
