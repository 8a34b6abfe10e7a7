"""What calls of models are made for and cost, and the budgets that they are held to: values of all layers."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

_MOST_TOKENS: Final = 1_000_000_000
"""That one call is believed to take."""


class Purpose(StrEnum):
    """What a model is called for."""

    ANSWER = "answer"
    STANDALONE_QUESTION = "standalone_question"
    SUMMARY = "summary"
    TITLE = "title"
    EXPANSION = "expansion"
    RERANKING = "reranking"
    SCOPE = "scope"
    VERIFICATION = "verification"
    EVALUATION = "evaluation"
    PROBE = "probe"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call as it is charged. `cost_usd` None is a model without a known price; `estimated` counts are ours."""

    purpose: Purpose
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Decimal | None
    estimated: bool = False

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Payer:
    """On whose account calls go; `user_id` or `key_id`, or neither where the operator asks."""

    organization_id: str
    caller_kind: str
    caller_id: str
    bot_id: str | None = None
    session_id: str | None = None
    message_id: str | None = None

    @property
    def user_id(self) -> str | None:
        return self.caller_id if self.caller_kind == "user" else None

    @property
    def key_id(self) -> str | None:
        return self.caller_id if self.caller_kind == "api_key" else None


class BudgetSubject(StrEnum):
    """Whose calls a budget limits."""

    ORGANIZATION = "organization"
    BOT = "bot"
    USER = "user"
    KEY = "key"


class BudgetPeriod(StrEnum):
    """Of the calendar, in UTC."""

    DAY = "day"
    MONTH = "month"


class BudgetState(StrEnum):
    OK = "ok"
    WARNING = "warning"
    SPENT = "spent"


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget and what has been taken from it in the present period, by one subject of it."""

    budget_id: str
    subject: BudgetSubject
    subject_id: str | None
    period: BudgetPeriod
    max_tokens: int | None
    max_cost_usd: Decimal | None
    spent_tokens: int
    spent_usd: Decimal
    reserved_tokens: int
    """By answers under way."""
    reserved_usd: Decimal
    resets_at: datetime

    @property
    def share(self) -> Decimal:
        """How much of it is spent: 1 is all."""
        shares = [Decimal(0)]
        if self.max_tokens is not None:
            shares.append(Decimal(self.spent_tokens) / self.max_tokens if self.max_tokens else Decimal(1))
        if self.max_cost_usd is not None:
            shares.append(self.spent_usd / self.max_cost_usd if self.max_cost_usd else Decimal(1))
        return max(shares)

    @property
    def state(self) -> BudgetState:
        if self.share >= 1:
            return BudgetState.SPENT
        return BudgetState.WARNING if self.share >= WARNING_SHARE else BudgetState.OK

    @property
    def is_taken(self) -> bool:
        """Whether what is spent and what is reserved together leave nothing."""
        tokens, cost = self.spent_tokens + self.reserved_tokens, self.spent_usd + self.reserved_usd
        return (self.max_tokens is not None and tokens >= self.max_tokens) or (
            self.max_cost_usd is not None and cost >= self.max_cost_usd
        )


@dataclass(frozen=True, slots=True)
class NewBudget:
    """Without `subject_id` it is of the organization, or of each bot, user or key."""

    subject: BudgetSubject
    subject_id: str | None
    period: BudgetPeriod
    max_tokens: int | None
    max_cost_usd: Decimal | None
    ceiling: bool = False


WARNING_SHARE: Final = Decimal("0.8")
"""From here on a budget is warned of."""


def period_end(period: BudgetPeriod, moment: datetime) -> datetime:
    """When the period that a moment in UTC is in ends, and the next one begins."""
    start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if period is BudgetPeriod.DAY:
        return start + timedelta(days=1)
    return (start.replace(day=1) + timedelta(days=32)).replace(day=1)


class UsageGroup(StrEnum):
    """By what usage can be summed up."""

    DAY = "day"
    BOT = "bot"
    USER = "user"
    KEY = "key"
    MODEL = "model"
    PURPOSE = "purpose"


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which calls; None leaves open. `since` is included, `to` is not."""

    since: datetime
    to: datetime
    caller_id: str | None = None
    bot_id: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Calls summed up; of the groups those that were asked for are set."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Decimal
    estimated_calls: int
    unpriced_calls: int
    """Of models without a known price: they are not in `cost_usd`."""
    day: str | None = None
    bot: str | None = None
    user: str | None = None
    key: str | None = None
    model: str | None = None
    purpose: str | None = None


def in_dollars(amount: Decimal) -> str:
    """An amount as text: never with an exponent, which the price of a short question would have."""
    return f"{amount:f}" if amount else "0"


def token_count(value: Any) -> int | None:
    """A provider's count of tokens; None where it is none, as many an imitator's: what is charged must be one."""
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None
