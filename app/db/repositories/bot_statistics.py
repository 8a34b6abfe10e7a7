"""How a bot does: counted from its answers."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from sqlalchemy import text

from app.db.repositories.base import TextRepository

_COUNTS: Final = text("""
SELECT GROUPING(answers.day) = 0 AS of_day, GROUPING(answers.number) = 0 AS of_version, answers.day, answers.number,
       count(*) AS turns,
       count(*) FILTER (WHERE answers.refused) AS refused,
       count(*) FILTER (WHERE answers.status IN ('failed', 'interrupted')) AS failed,
       count(*) FILTER (WHERE answers.rating = 'up') AS thumbs_up,
       count(*) FILTER (WHERE answers.rating = 'down') AS thumbs_down,
       coalesce(sum(CAST(answers.usage ->> 'prompt_tokens' AS bigint)), 0) AS prompt_tokens,
       coalesce(sum(CAST(answers.usage ->> 'completion_tokens' AS bigint)), 0) AS completion_tokens,
       coalesce(sum(CAST(answers.usage ->> 'cost_usd' AS numeric)), 0) AS cost_usd,
       CAST(percentile_cont(0.5) WITHIN GROUP (ORDER BY answers.latency_ms) AS integer) AS latency_p50_ms,
       CAST(percentile_cont(0.95) WITHIN GROUP (ORDER BY answers.latency_ms) AS integer) AS latency_p95_ms
  FROM (SELECT CAST(m.created_at AT TIME ZONE 'UTC' AS date) AS day, v.number, m.refused, m.status, m.usage, m.latency_ms,
               m.feedback ->> 'rating' AS rating
          FROM bot_versions v
          JOIN messages m ON m.organization_id = v.organization_id AND m.bot_version_id = v.id
         WHERE v.organization_id = :organization_id AND v.bot_id = :bot_id
           AND m.role = 'assistant' AND m.status <> 'streaming' AND m.created_at >= :since AND m.created_at < :until)
       AS answers
 GROUP BY GROUPING SETS ((), (answers.day), (answers.number))
 ORDER BY answers.day, answers.number
""")


@dataclass(frozen=True, slots=True)
class AnswerCounts:
    """`failed` are those that were broken off too; tokens and cost are of the answers whose provider said so."""

    turns: int
    refused: int
    failed: int
    thumbs_up: int
    thumbs_down: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Decimal
    latency_p50_ms: int | None
    latency_p95_ms: int | None


@dataclass(frozen=True, slots=True)
class Statistics:
    total: AnswerCounts
    days: dict[date, AnswerCounts]
    versions: dict[int, AnswerCounts]


class BotStatisticsRepository(TextRepository):
    async def counts(self, bot_id: str, *, since: datetime, until: datetime) -> Statistics:
        """The answers of the bot's versions from one moment to before another; days are those of UTC."""
        rows = await self.session.execute(
            _COUNTS,
            {
                "organization_id": self.organization_id,
                "bot_id": bot_id,
                "since": since,
                "until": until,
            },
        )
        total = AnswerCounts(0, 0, 0, 0, 0, 0, 0, Decimal(0), None, None)
        days: dict[date, AnswerCounts] = {}
        versions: dict[int, AnswerCounts] = {}
        for row in rows:
            counts = AnswerCounts(**{name: getattr(row, name) for name in AnswerCounts.__slots__})
            if row.of_day:
                days[row.day] = counts
            elif row.of_version:
                versions[row.number] = counts
            else:
                total = counts
        return Statistics(total, days, versions)
