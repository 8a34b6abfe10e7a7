"""Question sets and evaluations of an organization, and the queue of the latter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, func, insert, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from app.core import ids
from app.db.models import EvaluationRun, EvaluationSet, RunStatus
from app.db.repositories.base import Repository

CHANNEL: Final = "ibid_evaluations"
_UNDER_WAY: Final = (RunStatus.QUEUED, RunStatus.RUNNING)

_CLAIM: Final = text("""
UPDATE evaluation_runs SET status = 'running', claimed_by = :claimed_by, available_at = now() + :lease, attempts = attempts + 1
 WHERE id = (SELECT id FROM evaluation_runs WHERE status IN ('queued', 'running') AND available_at <= now()
              ORDER BY available_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, organization_id, attempts
""")


@dataclass(frozen=True, slots=True)
class RunClaim:
    """Somebody's right to work on an evaluation, for as long as it is extended."""

    run_id: str
    organization_id: str
    attempts: int
    claimed_by: str


async def claim(session: AsyncSession, *, claimed_by: str, lease: timedelta) -> RunClaim | None:
    """The evaluation that has waited longest, also one whose worker is gone; None without any. For the system principal."""
    row = (await session.execute(_CLAIM, {"claimed_by": claimed_by, "lease": lease})).one_or_none()
    return None if row is None else RunClaim(row.id, row.organization_id, row.attempts, claimed_by)


class EvaluationRepository(Repository):
    async def find_set(self, *, set_id: str | None = None, name: str | None = None) -> EvaluationSet | None:
        """A question set by its id or its name."""
        query = select(EvaluationSet).where(EvaluationSet.organization_id == self.organization_id)
        query = query.where(EvaluationSet.id == set_id if name is None else EvaluationSet.name == name)
        found: EvaluationSet | None = await self.session.scalar(query)
        return found

    async def sets(self, *, limit: int, offset: int) -> Sequence[EvaluationSet]:
        """Question sets without their questions, newest first."""
        return (
            await self.session.scalars(
                select(EvaluationSet)
                .options(defer(EvaluationSet.questions))
                .where(EvaluationSet.organization_id == self.organization_id)
                .order_by(EvaluationSet.created_at.desc(), EvaluationSet.id.desc())
                .limit(limit)
                .offset(offset)
            )
        ).all()

    async def add_set(self, name: str, questions: list[dict[str, Any]]) -> EvaluationSet:
        made: EvaluationSet = (
            await self.session.scalars(
                insert(EvaluationSet).returning(EvaluationSet),
                {
                    "id": ids.new(ids.Prefix.EVALUATION_SET),
                    "organization_id": self.organization_id,
                    "name": name,
                    "questions": questions,
                    "question_count": len(questions),
                    "created_by": self.principal.id,
                },
            )
        ).one()
        return made

    async def delete_set(self, set_id: str) -> bool:
        """With its evaluations; False when there is none."""
        deleted = await self.session.scalar(
            delete(EvaluationSet)
            .where(EvaluationSet.organization_id == self.organization_id, EvaluationSet.id == set_id)
            .returning(EvaluationSet.id)
        )
        return deleted is not None

    async def find(self, run_id: str) -> EvaluationRun | None:
        found: EvaluationRun | None = await self.session.scalar(
            select(EvaluationRun).where(
                EvaluationRun.organization_id == self.organization_id, EvaluationRun.id == run_id
            )
        )
        return found

    async def newest(
        self, *, limit: int, after: tuple[datetime, str] | None, offset: int, set_id: str | None
    ) -> Sequence[EvaluationRun]:
        """A page of evaluations without what they found for each question, newest first."""
        query = (
            select(EvaluationRun)
            .options(defer(EvaluationRun.result))
            .where(EvaluationRun.organization_id == self.organization_id)
        )
        if set_id is not None:
            query = query.where(EvaluationRun.set_id == set_id)
        if after is not None:
            query = query.where(tuple_(EvaluationRun.created_at, EvaluationRun.id) < after)
        query = query.order_by(EvaluationRun.created_at.desc(), EvaluationRun.id.desc())
        return (await self.session.scalars(query.limit(limit).offset(offset))).all()

    async def last_completed(self, set_id: str, *, but: str) -> EvaluationRun | None:
        """The one that ended last of a set's evaluations, another one than that."""
        found: EvaluationRun | None = await self.session.scalar(
            select(EvaluationRun)
            .where(
                EvaluationRun.organization_id == self.organization_id,
                EvaluationRun.set_id == set_id,
                EvaluationRun.status == RunStatus.COMPLETED,
                EvaluationRun.id != but,
            )
            .order_by(EvaluationRun.ended_at.desc(), EvaluationRun.id.desc())
            .limit(1)
        )
        return found

    async def counts(self) -> tuple[int, int]:
        """How many question sets there are, and how many evaluations that have not ended."""
        sets = select(func.count()).where(EvaluationSet.organization_id == self.organization_id)
        runs = select(func.count()).where(
            EvaluationRun.organization_id == self.organization_id, EvaluationRun.status.in_(_UNDER_WAY)
        )
        return (await self.session.scalar(sets)) or 0, (await self.session.scalar(runs)) or 0

    async def add(self, values: Mapping[str, Any]) -> EvaluationRun:
        """An evaluation that waits for a worker, which is told."""
        made: EvaluationRun = (
            await self.session.scalars(
                insert(EvaluationRun).returning(EvaluationRun),
                {
                    "id": ids.new(ids.Prefix.EVALUATION),
                    "organization_id": self.organization_id,
                    "created_by": self.principal.id,
                    **values,
                },
            )
        ).one()
        await self._tell_workers()
        return made

    async def delete(self, run_id: str) -> bool:
        """Whoever works on it loses it; False when there is none."""
        deleted = await self.session.scalar(
            delete(EvaluationRun)
            .where(EvaluationRun.organization_id == self.organization_id, EvaluationRun.id == run_id)
            .returning(EvaluationRun.id)
        )
        return deleted is not None

    async def update_claimed(self, claim: RunClaim, values: Mapping[str, Any]) -> bool:
        """Write how it goes or how it ended; False when the claim is lost."""
        updated = await self.session.scalar(
            update(EvaluationRun)
            .where(
                EvaluationRun.organization_id == self.organization_id,
                EvaluationRun.id == claim.run_id,
                EvaluationRun.claimed_by == claim.claimed_by,
            )
            .values(values)
            .returning(EvaluationRun.id)
        )
        if updated is not None and values.get("status") == RunStatus.QUEUED:
            await self._tell_workers()
        return updated is not None

    async def _tell_workers(self) -> None:
        await self.session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})

    async def forget_oldest(self, *, keep: int) -> int:
        """Delete ended evaluations but the newest; returns how many."""
        newest = (
            select(EvaluationRun.id)
            .where(EvaluationRun.organization_id == self.organization_id)
            .order_by(EvaluationRun.created_at.desc(), EvaluationRun.id.desc())
            .limit(keep)
        )
        deleted = await self.session.scalars(
            delete(EvaluationRun)
            .where(
                EvaluationRun.organization_id == self.organization_id,
                EvaluationRun.status.not_in(_UNDER_WAY),
                EvaluationRun.id.not_in(newest),
            )
            .returning(EvaluationRun.id)
        )
        return len(deleted.all())
