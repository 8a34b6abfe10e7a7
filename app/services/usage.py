"""What model calls cost: held to budgets before they are made, in the ledger afterwards, summed up for who asks."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import anyio
import structlog

from app.core import clock, ids
from app.core.errors import AppError, BudgetReserved, BudgetSpent, InvalidPeriod, OrganizationNotFound
from app.core.principal import SYSTEM, Principal, Role, Scope
from app.core.usage import (
    WARNING_SHARE,
    BudgetState,
    ModelCall,
    Payer,
    Purpose,
    Standing,
    UsageFilter,
    UsageGroup,
    UsageSum,
    in_dollars,
)
from app.db.engine import AnyTransaction
from app.db.repositories.organizations import OrganizationRepository
from app.db.repositories.usage import UsageRepository, purge_events
from app.rag import prices
from app.rag.llms import ChatModel
from app.rag.metering import MeteredModel
from app.services import budget_facts
from app.services.answers import Usage
from app.services.runtime import Runtime

log = structlog.get_logger(__name__)

_LONGEST_RANGE: Final = timedelta(days=366)
_DEFAULT_RANGE: Final = timedelta(days=30)
_MOST_WARNINGS: Final = 100
_LEAST_KEPT_DAYS: Final = 32
"""A budget of a month that is made today counts what was spent since the month began."""
_PURGED_AT_ONCE: Final = 1_000
_NOTHING: Final = Decimal(0)


class Ledger:
    """The model calls of one piece of work, most often an answer: a Meter, and what it has metered."""

    def __init__(self, runtime: Runtime, principal: Principal, *, message_id: str | None = None) -> None:
        self.calls: list[ModelCall] = []
        self.bot_id: str | None = None
        """To be known before the first call."""
        self.session_id: str | None = None
        self._runtime = runtime
        self._principal = principal
        self._message_id = message_id
        self._reservation_id = message_id or ids.new(ids.Prefix.MESSAGE)
        self._has_reserved = False

    @property
    def payer(self) -> Payer:
        principal = self._principal
        return Payer(
            principal.organization,
            principal.kind,
            principal.id,
            self.bot_id,
            self.session_id,
            self._message_id,
        )

    def metered(self, model: ChatModel, purpose: Purpose) -> MeteredModel:
        """The model for a purpose, on this account."""
        return MeteredModel(model, purpose, self)

    def note(self, call: ModelCall) -> None:
        self.calls.append(call)

    async def admit(self, model: str, *, prompt_tokens: int, completion_tokens: int) -> None:
        """Reserve what a call takes at most. Without a budget this asks nobody.

        Raises BudgetSpent, and BudgetReserved where answers under way hold what is left.
        """
        if not await self._is_budgeted():
            return
        usd = prices.cost_usd(model, prompt_tokens, completion_tokens) or _NOTHING
        runtime = self._runtime
        async with runtime.database.direct(self._principal, flushed_later=True) as session:
            standings = await UsageRepository(session, self._principal).reserve(
                self.payer,
                self._reservation_id,
                tokens=prompt_tokens + completion_tokens,
                usd=usd,
                lease=timedelta(seconds=runtime.settings.longest_turn_seconds),
            )
            _require_left(standings)  # raising takes back what was added
        self._has_reserved = bool(standings)

    async def is_to_settle(self, session: AnyTransaction) -> bool:
        """Whether a budget has to be told what was spent."""
        return self._has_reserved or (bool(self.calls) and await self._is_budgeted(session))

    async def settle(self, session: AnyTransaction) -> None:
        """Count what was spent to the budgets, in the transaction that is about to note the calls."""
        if not await self.is_to_settle(session):
            return
        tokens, usd = sum(call.tokens for call in self.calls), self.cost_usd or _NOTHING
        standings = await UsageRepository(session, self._principal).settle(
            self.payer, self._reservation_id, tokens=tokens, usd=usd
        )
        self._has_reserved = False
        for standing in standings:
            _warn(standing, tokens=tokens, usd=usd)

    @property
    def is_empty(self) -> bool:
        """Whether no call was made or admitted."""
        return not self.calls and not self._has_reserved

    @property
    def usage(self) -> Usage:
        """All calls together, as an answer tells them; None where none was made."""
        if not self.calls:
            return Usage()
        return Usage(
            prompt_tokens=sum(call.prompt_tokens for call in self.calls),
            completion_tokens=sum(call.completion_tokens for call in self.calls),
            cost_usd=self.cost_usd,
            estimated=any(call.estimated for call in self.calls),
        )

    @property
    def cost_usd(self) -> Decimal | None:
        """What the calls with a known price cost; None when none has one."""
        costs = [call.cost_usd for call in self.calls if call.cost_usd is not None]
        return sum(costs, _NOTHING) if costs else None

    async def _is_budgeted(self, session: AnyTransaction | None = None) -> bool:
        """Looked up in the transaction, where one is open: who waited for a second connection might wait for itself."""
        facts, organization_id = self._runtime.budget_facts, self._principal.organization
        subjects = facts.find(organization_id)
        if subjects is None:
            begun = facts.begin()
            if session is not None:
                subjects = await UsageRepository(session, self._principal).budgeted()
            else:
                async with self._runtime.database.single(self._principal) as own:
                    subjects = await UsageRepository(own, self._principal).budgeted()
            facts.learn(organization_id, subjects, begun=begun)
        return budget_facts.concerns(subjects, self.payer)


def ledger_of(runtime: Runtime, principal: Principal, *, message_id: str | None = None) -> Ledger:
    """An account on the caller's name. Whoever finishes the answer settles it and notes its calls with the answer."""
    return Ledger(runtime, principal, message_id=message_id)


@asynccontextmanager
async def account(
    runtime: Runtime,
    principal: Principal,
    *,
    bot_id: str | None = None,
    session_id: str | None = None,
    message_id: str | None = None,
) -> AsyncIterator[Ledger]:
    """A ledger for calls that no stored answer ends: settled and noted at the end of the block, however it ends."""
    ledger = ledger_of(runtime, principal, message_id=message_id)
    ledger.bot_id, ledger.session_id = bot_id, session_id
    try:
        yield ledger
    finally:
        await _close(runtime, principal, ledger)


async def _close(runtime: Runtime, principal: Principal, ledger: Ledger) -> None:
    if ledger.is_empty:
        return
    try:
        with anyio.CancelScope(shield=True):
            async with runtime.database.direct(principal) as session:
                await ledger.settle(session)
                if ledger.calls:
                    await UsageRepository(session, principal).note(ledger.payer, ledger.calls)
    except AppError as error:  # what was reserved ends with its lease; the first error is the one to report
        log.warning("usage_not_stored", tokens=sum(call.tokens for call in ledger.calls), reason=error.code)


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Sums of usage within a range of time, whether there are more, and the budgets to be warned of."""

    since: datetime
    to: datetime
    rows: list[UsageSum]
    total: UsageSum
    has_more: bool
    warnings: list[Standing]
    kept_since: datetime | None
    """Calls before this moment are no longer in the sums; None where all are."""


async def report(
    runtime: Runtime,
    principal: Principal,
    where: UsageFilter,
    groups: Sequence[UsageGroup],
    *,
    limit: int,
    offset: int,
    organization_id: str | None = None,
) -> UsageReport:
    """Usage of the organization for who manages it, one's own for everybody else; superadmins may name another one.

    Raises InvalidPeriod or OrganizationNotFound.
    """
    if organization_id not in (None, principal.organization):
        principal = await _acting_in(runtime, principal, organization_id or "")
    if not timedelta(0) < where.to - where.since <= _LONGEST_RANGE:
        raise InvalidPeriod(details={"longest_days": _LONGEST_RANGE.days})
    if not manages(principal):
        where = replace(where, caller_id=principal.id)
    async with runtime.database.unit_of_work(principal) as session:
        usage = UsageRepository(session, principal)
        rows = await usage.summed(where, groups, limit=limit + 1, offset=offset)
        (total,) = await usage.summed(where, (), limit=1)
        warnings = await usage.warned(
            share=WARNING_SHARE, subject_id=None if manages(principal) else principal.id, limit=_MOST_WARNINGS
        )
    return UsageReport(
        where.since, where.to, rows[:limit], total, len(rows) > limit, warnings, kept_since(runtime)
    )


def period(since: datetime | None, to: datetime | None) -> tuple[datetime, datetime]:
    """A range of time with what is left out filled in: until now, the last thirty days."""
    to = to or clock.now().astimezone(UTC)
    return since or to - _DEFAULT_RANGE, to


def kept_since(runtime: Runtime) -> datetime | None:
    """The beginning of the first day whose calls are all in the ledger; None where none ever leave it."""
    days = runtime.settings.usage_retention_days
    if not days:
        return None
    today = clock.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=max(days, _LEAST_KEPT_DAYS))


async def purge(runtime: Runtime) -> int:
    """Delete what the ledger is not to keep any longer, in short transactions; returns how many calls that were."""
    before = kept_since(runtime)
    purged = 0
    while before is not None:
        async with runtime.database.unit_of_work(SYSTEM) as session:
            gone = await purge_events(session, before=before, limit=_PURGED_AT_ONCE)
        purged += gone
        if gone < _PURGED_AT_ONCE:
            break
    return purged


async def _acting_in(runtime: Runtime, principal: Principal, organization_id: str) -> Principal:
    if principal.role is not Role.SUPERADMIN:
        raise OrganizationNotFound
    async with runtime.database.unit_of_work(SYSTEM) as session:
        if await OrganizationRepository(session).find(organization_id) is None:
            raise OrganizationNotFound
    return replace(principal, organization_id=organization_id)


def manages(principal: Principal) -> bool:
    return Scope.MANAGE in principal.scopes


def _require_left(standings: Sequence[Standing]) -> None:
    """Raise BudgetSpent for the first budget that is spent, BudgetReserved for one that answers under way hold."""
    for standing in standings:
        if standing.state is BudgetState.SPENT:
            raise _spent(standing)
    for standing in standings:
        if standing.is_taken:
            raise BudgetReserved(details=described(standing), retry_after_seconds=1)


def _spent(standing: Standing) -> BudgetSpent:
    whose = "organization" if standing.subject == "organization" else standing.subject.value
    return BudgetSpent(
        f"The {standing.period} budget of the {whose} is spent; it starts anew at {standing.resets_at.isoformat()}.",
        details=described(standing),
        retry_after_seconds=max(1.0, (standing.resets_at - clock.now()).total_seconds()),
    )


def described(standing: Standing) -> dict[str, object]:
    """A budget's standing as it is told in errors."""
    return {
        "budget_id": standing.budget_id,
        "subject": standing.subject,
        "subject_id": standing.subject_id,
        "period": standing.period,
        "max_tokens": standing.max_tokens,
        "spent_tokens": standing.spent_tokens,
        "max_cost_usd": None if standing.max_cost_usd is None else in_dollars(standing.max_cost_usd),
        "spent_usd": in_dollars(standing.spent_usd),
        "resets_at": standing.resets_at.isoformat(),
    }


def _warn(standing: Standing, *, tokens: int, usd: Decimal) -> None:
    """One line in the log when a budget passes a mark, not one for each answer beyond it."""
    before = replace(
        standing, spent_tokens=standing.spent_tokens - tokens, spent_usd=standing.spent_usd - usd
    )
    if standing.state is not before.state:
        log.warning(
            "budget_spent" if standing.state is BudgetState.SPENT else "budget_nearly_spent",
            budget_id=standing.budget_id,
            subject=standing.subject,
            period=standing.period,
            share=float(round(standing.share, 3)),
            warned_from=float(WARNING_SHARE),
        )
