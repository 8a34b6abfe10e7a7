"""The ledger of model calls, and what turns reserve and spend of budgets."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import text

from app.core.json_bytes import to_json
from app.core.usage import (
    BudgetPeriod,
    BudgetSubject,
    ModelCall,
    Payer,
    Standing,
    UsageFilter,
    UsageGroup,
    UsageSum,
)
from app.db.engine import AnyTransaction
from app.db.repositories.base import TextRepository

NOTE_CALLS: Final = """
INSERT INTO usage_events (organization_id, caller_kind, caller_id, bot_id, session_id, message_id, purpose, model,
                          prompt_tokens, completion_tokens, cost_usd, estimated)
SELECT :organization_id, :caller_kind, :caller_id, CAST(:bot_id AS text), CAST(:used_session_id AS text),
       CAST(:message_id AS text), call.purpose, call.model, call.prompt_tokens, call.completion_tokens, call.cost_usd,
       call.estimated
  FROM jsonb_to_recordset(CAST(:calls AS jsonb))
       AS call (purpose text, model text, prompt_tokens bigint, completion_tokens bigint, cost_usd numeric,
                estimated boolean)
"""
"""A part of the statement that finishes an answer, so that the ledger costs a turn no round trip."""

# The budgets that a payer's calls count to, each with the subject whose spending it is and the start of its period. A
# budget of one user stands in the place of the one that each user has.
_APPLICABLE: Final = """
applicable AS (
  SELECT b.id, caller.id AS subject_id, b.subject, b.period, b.max_tokens, b.max_cost_usd,
         CAST(date_trunc(b.period, now() AT TIME ZONE 'UTC') AS date) AS period_start
    FROM budgets b
    JOIN (VALUES ('organization', ''), ('bot', CAST(:bot_id AS text)), ('user', CAST(:user_id AS text)),
                 ('key', CAST(:key_id AS text))) AS caller (subject, id)
      ON caller.subject = b.subject AND caller.id IS NOT NULL
   WHERE b.organization_id = :organization_id
     AND (b.subject_id = caller.id
          OR (b.subject_id IS NULL
              AND NOT EXISTS (SELECT FROM budgets own
                               WHERE own.organization_id = b.organization_id AND own.subject = b.subject
                                 AND own.subject_id = caller.id AND own.period = b.period)))
)"""

# Spent before this budget was first looked at, but in its present period: asked only where there is no row yet.
_SPENT_BEFORE: Final = """
COALESCE((SELECT {sum} FROM usage_events e
           WHERE e.organization_id = :organization_id AND e.created_at >= CAST(a.period_start AS timestamp) AT TIME ZONE 'UTC'
             AND CASE a.subject WHEN 'organization' THEN true WHEN 'bot' THEN e.bot_id = a.subject_id
                                ELSE e.caller_id = a.subject_id END), 0)"""

_TAKEN: Final = f"""
INSERT INTO budget_spending AS s (budget_id, subject_id, organization_id, period_start, spent_tokens, spent_usd,
                                  reserved_tokens, reserved_usd)
SELECT a.id, a.subject_id, :organization_id, a.period_start,
       CASE WHEN known.budget_id IS NULL THEN {_SPENT_BEFORE.format(sum="sum(prompt_tokens + completion_tokens)")} ELSE 0 END
         {{spent_tokens}},
       CASE WHEN known.budget_id IS NULL THEN {_SPENT_BEFORE.format(sum="sum(cost_usd)")} ELSE 0 END {{spent_usd}},
       {{reserved_tokens}}, {{reserved_usd}}
  FROM applicable a LEFT JOIN budget_spending known ON known.budget_id = a.id AND known.subject_id = a.subject_id
 {{ordered}}
ON CONFLICT (budget_id, subject_id) DO UPDATE
   SET spent_tokens = {{added_tokens}},
       spent_usd = {{added_usd}},
       period_start = greatest(s.period_start, excluded.period_start),
       reserved_tokens = {{new_reserved_tokens}},
       reserved_usd = {{new_reserved_usd}}
RETURNING budget_id, subject_id, spent_tokens, spent_usd, reserved_tokens, reserved_usd"""

_STANDING_COLUMNS: Final = """
a.id AS budget_id, a.subject, nullif(a.subject_id, '') AS subject_id, a.period, a.max_tokens, a.max_cost_usd,
(a.period_start + CAST('1 ' || a.period AS interval)) AT TIME ZONE 'UTC' AS resets_at
"""


def _of_period(column: str) -> str:
    return f"CASE WHEN s.period_start >= excluded.period_start THEN s.{column} ELSE 0 END"


_RESERVE: Final = text(f"""
WITH {_APPLICABLE}, taken AS ({
    _TAKEN.format(
        spent_tokens="",
        spent_usd="",
        reserved_tokens="CAST(:tokens AS bigint)",
        reserved_usd="CAST(:usd AS numeric)",
        ordered="ORDER BY a.id",
        added_tokens=_of_period("spent_tokens"),
        added_usd=_of_period("spent_usd"),
        new_reserved_tokens="s.reserved_tokens + excluded.reserved_tokens",
        new_reserved_usd="s.reserved_usd + excluded.reserved_usd",
    )
}), held AS (
  INSERT INTO budget_reservations AS r (id, budget_id, subject_id, organization_id, tokens, usd, expires_at)
  SELECT CAST(:reservation_id AS text), taken.budget_id, taken.subject_id, :organization_id, CAST(:tokens AS bigint),
         CAST(:usd AS numeric), now() + CAST(:lease AS interval)
    FROM taken
  ON CONFLICT (id, budget_id, subject_id) DO UPDATE
     SET tokens = r.tokens + excluded.tokens, usd = r.usd + excluded.usd, expires_at = excluded.expires_at
  RETURNING budget_id, subject_id, tokens, usd
)
SELECT {_STANDING_COLUMNS}, taken.spent_tokens, taken.spent_usd,
       taken.reserved_tokens - held.tokens AS reserved_tokens, taken.reserved_usd - held.usd AS reserved_usd
  FROM applicable a
  JOIN taken ON taken.budget_id = a.id AND taken.subject_id = a.subject_id
  JOIN held ON held.budget_id = a.id AND held.subject_id = a.subject_id
 ORDER BY a.id
""")

_RELEASE: Final = text("""
WITH gone AS (
  DELETE FROM budget_reservations WHERE organization_id = :organization_id AND id = :reservation_id
  RETURNING budget_id, subject_id, tokens, usd
), locked AS (
  SELECT s.budget_id, s.subject_id, gone.tokens, gone.usd
    FROM budget_spending s JOIN gone USING (budget_id, subject_id)
   ORDER BY s.budget_id FOR UPDATE OF s
)
UPDATE budget_spending s
   SET reserved_tokens = s.reserved_tokens - locked.tokens, reserved_usd = s.reserved_usd - locked.usd
  FROM locked WHERE s.budget_id = locked.budget_id AND s.subject_id = locked.subject_id
RETURNING 1 AS released
""")

_SPEND: Final = text(f"""
WITH {_APPLICABLE}, taken AS ({
    _TAKEN.format(
        spent_tokens="+ CAST(:tokens AS bigint)",
        spent_usd="+ CAST(:usd AS numeric)",
        reserved_tokens="0",
        reserved_usd="0",
        ordered="ORDER BY a.id",
        added_tokens=f"{_of_period('spent_tokens')} + CAST(:tokens AS bigint)",
        added_usd=f"{_of_period('spent_usd')} + CAST(:usd AS numeric)",
        new_reserved_tokens="s.reserved_tokens",
        new_reserved_usd="s.reserved_usd",
    )
})
SELECT {_STANDING_COLUMNS}, taken.spent_tokens, taken.spent_usd, taken.reserved_tokens, taken.reserved_usd
  FROM applicable a JOIN taken ON taken.budget_id = a.id AND taken.subject_id = a.subject_id
""")

STANDING: Final = """
b.id AS budget_id, b.subject, nullif(s.subject_id, '') AS subject_id, b.period, b.max_tokens, b.max_cost_usd,
(s.period_start + CAST('1 ' || b.period AS interval)) AT TIME ZONE 'UTC' AS resets_at,
s.spent_tokens, s.spent_usd, s.reserved_tokens, s.reserved_usd"""
IS_PRESENT: Final = "s.period_start = CAST(date_trunc(b.period, now() AT TIME ZONE 'UTC') AS date)"
"""Of `budgets b JOIN budget_spending s`: the columns of a Standing, and the rows that are not of an earlier period."""

_WARNED: Final = text(f"""
SELECT {STANDING} FROM budgets b JOIN budget_spending s ON s.budget_id = b.id
 WHERE b.organization_id = :organization_id AND {IS_PRESENT}
   AND (s.spent_tokens >= CAST(:share AS numeric) * b.max_tokens OR s.spent_usd >= CAST(:share AS numeric) * b.max_cost_usd)
   AND (CAST(:subject_id AS text) IS NULL OR s.subject_id = :subject_id)
 ORDER BY b.id, s.subject_id LIMIT :limit
""")

_SUBJECTS: Final = text(
    "SELECT DISTINCT subject, subject_id FROM budgets WHERE organization_id = :organization_id"
)

_GROUPS: Final = {
    UsageGroup.DAY: "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    UsageGroup.BOT: "bot_id",
    UsageGroup.USER: "CASE WHEN caller_kind = 'user' THEN caller_id END",
    UsageGroup.KEY: "CASE WHEN caller_kind = 'api_key' THEN caller_id END",
    UsageGroup.MODEL: "model",
    UsageGroup.PURPOSE: "purpose",
}
_SUMS: Final = """
count(*) AS calls, COALESCE(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
COALESCE(sum(completion_tokens), 0)::bigint AS completion_tokens, COALESCE(sum(cost_usd), 0) AS cost_usd,
count(*) FILTER (WHERE estimated) AS estimated_calls, count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced_calls
"""


def call_parameters(payer: Payer, calls: Sequence[ModelCall]) -> dict[str, Any]:
    """The values of `NOTE_CALLS`."""
    return {
        "organization_id": payer.organization_id,
        "caller_kind": payer.caller_kind,
        "caller_id": payer.caller_id,
        "bot_id": payer.bot_id,
        "used_session_id": payer.session_id,
        "message_id": payer.message_id,
        "calls": to_json(
            [
                {
                    "purpose": call.purpose,
                    "model": call.model,
                    "prompt_tokens": call.prompt_tokens,
                    "completion_tokens": call.completion_tokens,
                    "cost_usd": None if call.cost_usd is None else str(call.cost_usd),
                    "estimated": call.estimated,
                }
                for call in calls
            ]
        ).decode(),
    }


_NOTE: Final = text(f"{NOTE_CALLS} RETURNING id")


class UsageRepository(TextRepository):
    async def note(self, payer: Payer, calls: Sequence[ModelCall]) -> int:
        """Calls that belong to no answer's end; returns how many."""
        values = {**call_parameters(payer, calls), "organization_id": self.organization_id}
        return len((await self.session.execute(_NOTE, values)).all())

    async def budgeted(self) -> frozenset[tuple[str, str | None]]:
        """Whom of the organization any budget limits: (subject, its id or None for each)."""
        rows = await self.session.execute(_SUBJECTS, {"organization_id": self.organization_id})
        return frozenset((row.subject, row.subject_id) for row in rows)

    async def reserve(
        self, payer: Payer, reservation_id: str, *, tokens: int, usd: Decimal, lease: timedelta
    ) -> list[Standing]:
        """Add to what a turn holds of every budget of the payer; what the others hold is `reserved_*` in the answer.

        Whoever finds too little left rolls the transaction back. Two that do this at once wait for each other.
        """
        values = {"reservation_id": reservation_id, "tokens": tokens, "usd": usd, "lease": lease}
        return await self._standings(_RESERVE, payer, values)

    async def settle(self, payer: Payer, reservation_id: str, *, tokens: int, usd: Decimal) -> list[Standing]:
        """Give back what a turn holds, and count what it has spent. To be called before its calls are noted."""
        await self.session.execute(
            _RELEASE, {"organization_id": self.organization_id, "reservation_id": reservation_id}
        )
        return await self._standings(_SPEND, payer, {"tokens": tokens, "usd": usd})

    async def summed(
        self,
        where: UsageFilter,
        groups: Sequence[UsageGroup],
        *,
        limit: int,
        offset: int = 0,
    ) -> list[UsageSum]:
        """Sums of each combination of the groups: by day the newest first, otherwise the dearest first."""
        names = list(dict.fromkeys(groups))
        columns = "".join(f'{_GROUPS[name]} AS "{name}", ' for name in names)
        places = ", ".join(str(place) for place in range(1, len(names) + 1))
        by_day = f"{names.index(UsageGroup.DAY) + 1} DESC, " if UsageGroup.DAY in names else ""
        statement = text(f"""
            SELECT {columns}{_SUMS} FROM usage_events
             WHERE organization_id = :organization_id AND created_at >= :since AND created_at < :to
               AND (CAST(:caller_id AS text) IS NULL OR caller_id = :caller_id)
               AND (CAST(:bot_id AS text) IS NULL OR bot_id = :bot_id)
               AND (CAST(:model AS text) IS NULL OR model = :model)
             {f"GROUP BY {places}" if names else ""}
             ORDER BY {by_day}cost_usd DESC, prompt_tokens DESC{f", {places}" if names else ""}
             LIMIT :limit OFFSET :offset
        """)
        values = {name: getattr(where, name) for name in UsageFilter.__slots__}
        rows = await self.session.execute(
            statement, {**values, "organization_id": self.organization_id, "limit": limit, "offset": offset}
        )
        columns_of = [name for name in UsageSum.__slots__ if name not in set(UsageGroup) or name in names]
        return [UsageSum(**{name: getattr(row, name) for name in columns_of}) for row in rows]

    async def warned(self, *, share: Decimal, subject_id: str | None, limit: int) -> list[Standing]:
        """Budgets of which at least this share is spent; of one subject alone where one is named."""
        rows = await self.session.execute(
            _WARNED,
            {
                "organization_id": self.organization_id,
                "share": share,
                "subject_id": subject_id,
                "limit": limit,
            },
        )
        return [standing_of(row) for row in rows]

    async def _standings(self, statement: Any, payer: Payer, values: dict[str, Any]) -> list[Standing]:
        rows = await self.session.execute(
            statement,
            {
                "organization_id": self.organization_id,
                "bot_id": payer.bot_id,
                "user_id": payer.user_id,
                "key_id": payer.key_id,
                **values,
            },
        )
        return [standing_of(row) for row in rows]


_RELEASE_EXPIRED: Final = text("""
WITH expired AS (
  SELECT id, budget_id, subject_id FROM budget_reservations WHERE expires_at < now()
   ORDER BY budget_id, subject_id LIMIT 1000 FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM budget_reservations r USING expired
   WHERE r.id = expired.id AND r.budget_id = expired.budget_id AND r.subject_id = expired.subject_id
  RETURNING r.budget_id, r.subject_id, r.tokens, r.usd
), summed AS (
  SELECT budget_id, subject_id, sum(tokens) AS tokens, sum(usd) AS usd FROM gone GROUP BY budget_id, subject_id
), locked AS (
  SELECT s.budget_id, s.subject_id, summed.tokens, summed.usd
    FROM budget_spending s JOIN summed USING (budget_id, subject_id)
   ORDER BY s.budget_id, s.subject_id FOR UPDATE OF s
)
UPDATE budget_spending s
   SET reserved_tokens = s.reserved_tokens - locked.tokens, reserved_usd = s.reserved_usd - locked.usd
  FROM locked WHERE s.budget_id = locked.budget_id AND s.subject_id = locked.subject_id
RETURNING s.budget_id
""")


async def release_expired(session: AnyTransaction) -> int:
    """Give back, in all organizations, what processes that died held; returns of how many budgets."""
    return len((await session.execute(_RELEASE_EXPIRED, {})).all())


_PURGE: Final = text("""
WITH oldest AS (SELECT id FROM usage_events ORDER BY id LIMIT :limit)
DELETE FROM usage_events e USING oldest WHERE e.id = oldest.id AND e.created_at < CAST(:before AS timestamptz) RETURNING e.id
""")
"""Ids grow with time: the primary key leads to the oldest, in whichever organization."""


async def purge_events(session: AnyTransaction, *, before: datetime, limit: int) -> int:
    """Delete some of the calls made before this moment, in all organizations; returns how many."""
    return len((await session.execute(_PURGE, {"before": before, "limit": limit})).all())


def standing_of(row: Any) -> Standing:
    """From a row with the columns of `STANDING`."""
    return Standing(
        budget_id=row.budget_id,
        subject=BudgetSubject(row.subject),
        subject_id=row.subject_id,
        period=BudgetPeriod(row.period),
        max_tokens=row.max_tokens,
        max_cost_usd=row.max_cost_usd,
        spent_tokens=row.spent_tokens,
        spent_usd=row.spent_usd,
        reserved_tokens=row.reserved_tokens,
        reserved_usd=row.reserved_usd,
        resets_at=row.resets_at,
    )
