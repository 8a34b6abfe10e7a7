"""The queue of documents to process: a table, claimed with SKIP LOCKED and fenced.

A claim is a lease. It ends when its worker stops extending it, and then the job is anybody's again. Whatever a worker
writes at the end goes through `finish` in the same transaction, which works for the claim that holds the job and for no
other: of two workers that believe it theirs, one has an effect. Starts are counted in the claim, so also those that take
the worker with them.

A document's row is always locked before its job; a claim takes both or passes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

JOBS: Final = "ibid_jobs"
"""Channel: there may be something to claim."""
DOCUMENTS: Final = "ibid_documents"
"""Channel: the document with this id has changed."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One start of a job: the fence of everything that its worker writes. No two have the same `claimed_by`."""

    document_id: str
    organization_id: str
    generation: int
    attempts: int
    postponed: int
    claimed_by: str
    from_pages: bool = False
    """Whether the text that was read before is to be chunked anew, and its file left alone."""

    @property
    def crashes(self) -> int:
        """Starts before this one that ended without a word."""
        return self.attempts - 1 - self.postponed

    def parameters(self) -> dict[str, Any]:
        return {
            "document_id": self.document_id,
            "generation": self.generation,
            "attempts": self.attempts,
            "claimed_by": self.claimed_by,
        }


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits and what is under way; the age is of the job that has been ready for longest."""

    ready: int
    running: int
    postponed: int
    oldest_ready_seconds: float


_MINE: Final = """
 document_id = :document_id AND generation = :generation AND attempts = :attempts AND claimed_by = :claimed_by
"""

_ENQUEUE: Final = text("""
INSERT INTO jobs (document_id, organization_id, generation, rank, available_at)
VALUES (:document_id, :organization_id, :generation, now() + :behind, now() + :pause)
ON CONFLICT (document_id) DO UPDATE
   SET generation = EXCLUDED.generation, rank = EXCLUDED.rank, available_at = EXCLUDED.available_at, claimed_by = NULL, attempts = 0,
       postponed = 0, created_at = now(), from_pages = false
""")
_NOTIFY: Final = text("SELECT pg_notify(:channel, :payload)")

# Organizations are read by skipping through the index, then a few of the first jobs of each: a long queue of one of
# them costs the others nothing. Several, because the first may be locked by a claim that is being made.
_CLAIM: Final = text("""
WITH RECURSIVE waiting (organization_id) AS (
  (SELECT organization_id FROM jobs ORDER BY organization_id LIMIT 1)
  UNION ALL
  SELECT (SELECT j.organization_id FROM jobs j WHERE j.organization_id > w.organization_id
           ORDER BY j.organization_id LIMIT 1)
    FROM waiting w WHERE w.organization_id IS NOT NULL
), candidates AS (
  SELECT j.document_id, j.rank, r.running, t.served_at
    FROM waiting w
    LEFT JOIN job_turns t ON t.organization_id = w.organization_id
   CROSS JOIN LATERAL (SELECT count(*) AS running FROM jobs
                        WHERE organization_id = w.organization_id AND claimed_by IS NOT NULL AND available_at > now()) r
   CROSS JOIN LATERAL (SELECT document_id, rank FROM jobs
                        WHERE organization_id = w.organization_id AND available_at <= now()
                        ORDER BY rank LIMIT 16) j
), next AS (
  SELECT j.document_id
    FROM candidates c
    JOIN jobs j ON j.document_id = c.document_id
    JOIN documents d ON d.id = j.document_id
   WHERE j.available_at <= now()
   ORDER BY c.running, c.served_at NULLS FIRST, c.rank
   LIMIT 1
     FOR UPDATE OF j, d SKIP LOCKED
), claimed AS (
  UPDATE jobs j SET claimed_by = :claimed_by, available_at = now() + :lease, attempts = attempts + 1
    FROM next WHERE j.document_id = next.document_id
  RETURNING j.document_id, j.organization_id, j.generation, j.attempts, j.postponed, j.from_pages
), shown AS (
  UPDATE documents d
     SET status = 'processing', stage = NULL, progress = 0, attempts = claimed.attempts, error = NULL,
         revision = revision + 1
    FROM claimed WHERE d.id = claimed.document_id AND d.generation = claimed.generation
  RETURNING pg_notify(:channel, d.id)
), turn AS (
  INSERT INTO job_turns (organization_id, served_at) SELECT organization_id, clock_timestamp() FROM claimed
  ON CONFLICT (organization_id) DO UPDATE SET served_at = EXCLUDED.served_at
)
SELECT document_id, organization_id, generation, attempts, postponed, from_pages, (SELECT count(*) FROM shown) FROM claimed
""")
_HOLDS: Final = text(f"SELECT document_id FROM jobs WHERE {_MINE}")
_EXTEND: Final = text(f"""
UPDATE jobs SET available_at = now() + :lease WHERE {_MINE} RETURNING document_id
""")
_FINISH: Final = text(f"DELETE FROM jobs WHERE {_MINE} RETURNING document_id")
_POSTPONE: Final = text(f"""
UPDATE jobs SET claimed_by = NULL, available_at = now() + :pause, postponed = postponed + 1 WHERE {_MINE}
RETURNING document_id
""")
_RELEASE: Final = text(f"""
UPDATE jobs SET claimed_by = NULL, available_at = now(), attempts = attempts - 1 WHERE {_MINE} RETURNING document_id
""")
_CANCEL: Final = text("DELETE FROM jobs WHERE document_id = :document_id RETURNING document_id")
_FIND: Final = text("SELECT generation FROM jobs WHERE document_id = :document_id")
_BACKLOG: Final = text("""
SELECT count(*) FILTER (WHERE available_at <= now()) AS ready,
       count(*) FILTER (WHERE claimed_by IS NOT NULL AND available_at > now()) AS running,
       count(*) FILTER (WHERE claimed_by IS NULL AND available_at > now()) AS postponed,
       coalesce(extract(epoch FROM now() - min(available_at) FILTER (WHERE available_at <= now())), 0) AS oldest
  FROM jobs
""")


_SIGN_OF_LIFE: Final = text("""
WITH forgotten AS (DELETE FROM workers WHERE seen_at < now() - interval '1 day' AND name <> :name)
INSERT INTO workers (name, concurrency) VALUES (:name, :concurrency)
ON CONFLICT (name) DO UPDATE SET concurrency = EXCLUDED.concurrency, seen_at = now()
""")
_SIGN_OFF: Final = text("DELETE FROM workers WHERE name = :name")
_ALIVE: Final = text("SELECT count(*) FROM workers WHERE seen_at > now() - CAST(:within AS interval)")


async def enqueue(
    session: AsyncSession,
    *,
    document_id: str,
    organization_id: str,
    generation: int,
    behind: timedelta = timedelta(),
    pause: timedelta = timedelta(),
) -> None:
    """Have this generation processed; whoever works on an older one has lost it.

    `behind` is how far back in the queue, `pause` how long to wait at least.
    """
    await session.execute(
        _ENQUEUE,
        {
            "document_id": document_id,
            "organization_id": organization_id,
            "generation": generation,
            "behind": behind,
            "pause": pause,
        },
    )
    await session.execute(_NOTIFY, {"channel": JOBS, "payload": ""})


async def wake(session: AsyncSession) -> None:
    """Have the workers look, once the transaction commits."""
    await session.execute(_NOTIFY, {"channel": JOBS, "payload": ""})


async def announce(session: AsyncSession, document_id: str) -> None:
    """Tell those who follow the document that it has changed, once the transaction commits."""
    await session.execute(_NOTIFY, {"channel": DOCUMENTS, "payload": document_id})


async def claim(session: AsyncSession, *, claimed_by: str, lease: timedelta) -> Claim | None:
    """The next job and its document, which now shows as processing; None when nothing is ready. For the system principal.

    The organization with the fewest running jobs comes first, then the one that was served longest ago.
    """
    parameters = {"claimed_by": claimed_by, "lease": lease, "channel": DOCUMENTS}
    row = (await session.execute(_CLAIM, parameters)).one_or_none()
    if row is None:
        return None
    return Claim(
        document_id=row.document_id,
        organization_id=row.organization_id,
        generation=row.generation,
        attempts=row.attempts,
        postponed=row.postponed,
        claimed_by=claimed_by,
        from_pages=row.from_pages,
    )


async def holds(session: AsyncSession, claim: Claim) -> bool:
    """Whether the claim is not lost."""
    return await session.scalar(_HOLDS, claim.parameters()) is not None


async def extend(session: AsyncSession, claim: Claim, *, lease: timedelta) -> bool:
    """Keep the claim; False when it is lost."""
    return await _still_mine(session, _EXTEND, {**claim.parameters(), "lease": lease})


async def finish(session: AsyncSession, claim: Claim) -> bool:
    """End the job; False when the claim is lost, and then nothing else of this transaction may be committed."""
    return await _still_mine(session, _FINISH, claim.parameters())


async def postpone(session: AsyncSession, claim: Claim, *, pause: timedelta) -> bool:
    """Give the job back, to be tried again after a pause; False when the claim is lost."""
    return await _still_mine(session, _POSTPONE, {**claim.parameters(), "pause": pause})


async def release(session: AsyncSession, claim: Claim) -> bool:
    """Give the job back as if it had not been started; False when the claim is lost."""
    released = await _still_mine(session, _RELEASE, claim.parameters())
    if released:
        await session.execute(_NOTIFY, {"channel": JOBS, "payload": ""})
    return released


async def cancel(session: AsyncSession, document_id: str) -> bool:
    """Take the job away from whoever has it; False when there is none."""
    return await session.scalar(_CANCEL, {"document_id": document_id}) is not None


async def is_queued(session: AsyncSession, document_id: str) -> bool:
    """Whether the document waits to be processed, or is."""
    return await session.scalar(_FIND, {"document_id": document_id}) is not None


async def backlog(session: AsyncSession) -> Backlog:
    """The whole queue in numbers. For the system principal."""
    row = (await session.execute(_BACKLOG)).one()
    return Backlog(row.ready, row.running, row.postponed, float(row.oldest))


async def show_sign_of_life(session: AsyncSession, worker: str, *, concurrency: int) -> None:
    """This worker is there; what was not heard of for a day is forgotten. For the system principal."""
    await session.execute(_SIGN_OF_LIFE, {"name": worker, "concurrency": concurrency})


async def sign_off(session: AsyncSession, worker: str) -> None:
    """This worker has ended in order. For the system principal."""
    await session.execute(_SIGN_OFF, {"name": worker})


async def workers_alive(session: AsyncSession, *, within: timedelta) -> int:
    """How many workers have shown a sign of life lately. For the system principal."""
    return int(await session.scalar(_ALIVE, {"within": within}) or 0)


async def _still_mine(session: AsyncSession, statement: Any, parameters: dict[str, Any]) -> bool:
    found: Sequence[str] = (await session.scalars(statement, parameters)).all()
    return bool(found)
