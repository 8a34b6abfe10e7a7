"""The index built anew beside the one that is served. For the system principal: a rebuild passes through organizations.

A document belongs to a rebuild when `built_for` is its number: whoever stores new content sets that back to 0, so whatever was
built meanwhile of the content before is not taken. A claim is a lease on one document; its holder alone may store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import func, literal, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.index_build import IndexBuild, name_of
from app.db import queue
from app.db.models import Document, IndexRebuild, RebuildState
from app.db.repositories import index_state

_WANTED: Final = "d.built_for < :number AND d.chunk_count > 0"

# A claim is also written on the document: content that comes meanwhile takes the mark away. Without attempts somebody else claimed
# the document after this statement's snapshot was taken, and let go of its row before it was locked here.
_CLAIM: Final = text(f"""
WITH next AS (
  SELECT d.id, d.organization_id FROM documents d
   WHERE {_WANTED}
     AND NOT EXISTS (SELECT FROM rebuild_claims c WHERE c.document_id = d.id AND c.available_at > now())
   ORDER BY d.built_for, d.id LIMIT 1 FOR UPDATE OF d SKIP LOCKED
), marked AS (
  UPDATE documents d SET built_for = -CAST(:number AS bigint) FROM next WHERE d.id = next.id
), claimed AS (
  INSERT INTO rebuild_claims (document_id, organization_id, claimed_by, available_at)
  SELECT id, organization_id, :claimed_by, now() + :lease FROM next
  ON CONFLICT (document_id) DO UPDATE
     SET claimed_by = EXCLUDED.claimed_by, available_at = EXCLUDED.available_at, attempts = rebuild_claims.attempts + 1
   WHERE rebuild_claims.available_at <= now()
  RETURNING attempts
)
SELECT next.id, next.organization_id, claimed.attempts FROM next LEFT JOIN claimed ON true
""")
_CLAIMED_BEFORE_AT_MOST: Final = 100
"""How often in a row others may be quicker; more at once than there are connections can't be."""
_EXTEND: Final = text("""
UPDATE rebuild_claims SET available_at = now() + :lease WHERE claimed_by = ANY(CAST(:claimed_by AS text[])) AND available_at > now()
""")
_DROP_CLAIM: Final = text("""
DELETE FROM rebuild_claims WHERE document_id = :document_id AND claimed_by = :claimed_by RETURNING document_id
""")
_POSTPONE: Final = text("""
UPDATE rebuild_claims SET available_at = now() + :pause, attempts = 0, claimed_by = ''
 WHERE document_id = :document_id AND claimed_by = :claimed_by
""")
_WAITING: Final = text(f"""
SELECT d.id, d.organization_id,
       coalesce(c.available_at > now(), false) AS claimed, coalesce(c.available_at > now() + :alive, false) AS alive
  FROM documents d LEFT JOIN rebuild_claims c ON c.document_id = d.id WHERE {_WANTED} ORDER BY d.built_for, d.id LIMIT :limit
""")
_DONE: Final = text("SELECT count(*) FROM documents WHERE built_for = :number AND chunk_count > 0")
_LACKING: Final = text("""
SELECT (SELECT count(*) FROM documents d WHERE d.built_for < r.number AND d.chunk_count > 0)
  FROM index_rebuilds r
 WHERE r.organization_id IS NULL AND r.ended_at IS NULL AND r.state = 'running' AND r.error IS NULL
""")
_TOTAL: Final = text("SELECT count(*) FROM documents WHERE chunk_count > 0")
_TOTAL_OF: Final = text(
    "SELECT count(*) FROM documents WHERE chunk_count > 0 AND organization_id = :organization_id"
)
_FORGET_CLAIMS: Final = text("DELETE FROM rebuild_claims")

_LAST_DOCUMENT: Final = text("SELECT max(id) FROM documents")
_SOME_DOCUMENTS: Final = text("""
SELECT id FROM documents WHERE id > :after AND id <= :until ORDER BY id LIMIT :limit FOR UPDATE
""")
_REMOVE_OTHERS: Final = text("""
DELETE FROM chunks WHERE document_id = ANY(CAST(:ids AS text[])) AND embedding_model <> :kept
""")
_COUNT: Final = text("""
UPDATE documents d SET chunk_count = n.chunks
  FROM (SELECT document_id, count(*) AS chunks FROM chunks
         WHERE document_id = ANY(CAST(:ids AS text[])) AND embedding_model = :kept GROUP BY document_id) n
 WHERE d.id = n.document_id AND d.chunk_count <> n.chunks
""")

# The queue reads the text of before again, unless a new version waits: that has its own file.
_CHUNK_ANEW: Final = text("""
WITH started AS (
  UPDATE documents
     SET status = 'uploaded', generation = generation + 1, stage = NULL, progress = 0, attempts = 0, error = NULL,
         updated_at = now(), revision = revision + 1
   WHERE organization_id = :organization_id AND chunk_count > 0
  RETURNING id, organization_id, generation, pending
)
INSERT INTO jobs (document_id, organization_id, generation, rank, from_pages)
SELECT id, organization_id, generation, now() + interval '2 minutes', pending IS NULL FROM started
ON CONFLICT (document_id) DO UPDATE
   SET generation = EXCLUDED.generation, rank = EXCLUDED.rank, available_at = now(), claimed_by = NULL, attempts = 0,
       postponed = 0, created_at = now(), from_pages = EXCLUDED.from_pages
""")
_LEFT: Final = text("""
SELECT count(*) FROM jobs WHERE organization_id = :organization_id AND created_at = :began_at
""")
_HELD: Final = text("""
SELECT d.id FROM documents d JOIN jobs j ON j.document_id = d.id
 WHERE j.organization_id = :organization_id AND j.created_at = :began_at AND j.claimed_by IS NULL
 ORDER BY d.id FOR UPDATE OF d
""")
_WITHDRAW: Final = text("""
WITH gone AS (
  DELETE FROM jobs WHERE document_id = ANY(CAST(:ids AS text[])) AND created_at = :began_at AND claimed_by IS NULL AND from_pages
  RETURNING document_id
)
UPDATE documents d
   SET status = 'completed', generation = generation + 1, stage = NULL, progress = 1, error = NULL, revision = revision + 1
  FROM gone WHERE d.id = gone.document_id
""")
_SET_CHUNKING: Final = text("""
UPDATE collections
   SET chunk_size_tokens = coalesce(CAST(:size AS int), chunk_size_tokens),
       chunk_overlap_tokens = coalesce(CAST(:overlap AS int), chunk_overlap_tokens),
       splitter = coalesce(CAST(:splitter AS text), splitter), updated_at = now()
 WHERE organization_id = :organization_id
""")


@dataclass(frozen=True, slots=True)
class BuildClaim:
    """One start on one document of a rebuild. No two have the same `claimed_by`."""

    document_id: str
    organization_id: str
    attempts: int
    claimed_by: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A document that a rebuild has yet to build; whether it is claimed, and for how long: `alive` is for longer than asked."""

    document_id: str
    organization_id: str
    claimed: bool
    alive: bool


class RebuildRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def under_way(self, organization_id: str | None = None) -> IndexRebuild | None:
        """The rebuild that has not ended, of the installation or of an organization."""
        found: IndexRebuild | None = await self.session.scalar(
            select(IndexRebuild)
            .where(IndexRebuild.organization_id.is_not_distinct_from(organization_id))
            .where(IndexRebuild.ended_at.is_(None))
            .execution_options(populate_existing=True)
        )
        return found

    async def of_organizations(self, *, limit: int) -> Sequence[IndexRebuild]:
        """Some organizations' rebuilds that have not ended, the oldest first, but for those that somebody is at."""
        return (
            await self.session.scalars(
                select(IndexRebuild)
                .where(IndexRebuild.organization_id.is_not(None), IndexRebuild.ended_at.is_(None))
                .order_by(IndexRebuild.number)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
        ).all()

    async def newest(self, organization_ids: Sequence[str | None]) -> IndexRebuild | None:
        """The newest rebuild of any of these; None among them is the installation."""
        known = [key for key in organization_ids if key is not None]
        installation = None in organization_ids
        found: IndexRebuild | None = await self.session.scalar(
            select(IndexRebuild)
            .where(
                IndexRebuild.organization_id.in_(known)
                | (IndexRebuild.organization_id.is_(None) & literal(installation))
            )
            .order_by(IndexRebuild.number.desc())
            .limit(1)
        )
        return found

    async def target(self) -> IndexBuild | None:
        """The build that a rebuild of the installation is making, so that every process has its model ready."""
        rebuild = await self.under_way()
        return None if rebuild is None or rebuild.state != RebuildState.RUNNING else build_of(rebuild)

    async def add(self, values: dict[str, Any]) -> IndexRebuild | None:
        """A rebuild that begins; None when another one is under way."""
        organization_id = values.get("organization_id")
        of = {} if organization_id is None else {"organization_id": organization_id}
        total = await self.session.scalar(_TOTAL_OF if of else _TOTAL, of)
        made: IndexRebuild | None = await self.session.scalar(
            postgresql.insert(IndexRebuild)
            .values(state=RebuildState.RUNNING, documents_total=int(total or 0), **values)
            .on_conflict_do_nothing()
            .returning(IndexRebuild)
        )
        await index_state.announce(self.session)
        return made

    async def change(self, rebuild_id: str, states: Sequence[RebuildState], values: dict[str, Any]) -> bool:
        """Set columns of a rebuild that is in one of the states; False when it is in another one by now."""
        changed = await self.session.scalar(
            update(IndexRebuild)
            .where(IndexRebuild.id == rebuild_id, IndexRebuild.state.in_(states))
            .values(**values)
            .returning(IndexRebuild.id)
        )
        if changed is not None:
            await index_state.announce(self.session)
        return changed is not None

    async def switched(self, rebuild_id: str, *, previous_build: str) -> None:
        """Write down that its build is served now, and which one is to go."""
        values = {"state": RebuildState.SWITCHED, "previous_build": previous_build, "error": None}
        await self.change(rebuild_id, [RebuildState.RUNNING], {**values, "switched_at": func.now()})

    async def end(self, rebuild_id: str, states: Sequence[RebuildState], state: RebuildState) -> bool:
        """Have it over and done with, if it is in one of the states."""
        return await self.change(rebuild_id, states, {"state": state, "ended_at": func.now()})

    async def is_over(self, rebuild: IndexRebuild, grace: timedelta) -> bool:
        """Whether the switch is so long ago that nobody searches what was served before."""
        query = select(IndexRebuild.switched_at < func.now() - grace).where(IndexRebuild.id == rebuild.id)
        return bool(await self.session.scalar(query))

    async def claim(self, number: int, *, claimed_by: str, lease: timedelta) -> BuildClaim | None:
        """The next document that the rebuild lacks; None when there is none, or others hold what there is."""
        values = {"number": number, "claimed_by": claimed_by, "lease": lease}
        for _ in range(_CLAIMED_BEFORE_AT_MOST):
            row = (await self.session.execute(_CLAIM, values)).one_or_none()
            if row is None:
                return None
            if row.attempts is not None:
                return BuildClaim(row.id, row.organization_id, row.attempts, claimed_by)
        return None

    async def extend(self, claimed_by: Sequence[str], *, lease: timedelta) -> None:
        await self.session.execute(_EXTEND, {"claimed_by": list(claimed_by), "lease": lease})

    async def drop(self, claim: BuildClaim) -> bool:
        """End a claim; False when it is lost."""
        values = {"document_id": claim.document_id, "claimed_by": claim.claimed_by}
        return await self.session.scalar(_DROP_CLAIM, values) is not None

    async def postpone(self, claim: BuildClaim, *, pause: timedelta) -> None:
        """Have the document tried again after a pause; a start that ended in order does not count."""
        values = {"document_id": claim.document_id, "claimed_by": claim.claimed_by, "pause": pause}
        await self.session.execute(_POSTPONE, values)

    async def hold(self, document_id: str, *, wait: bool) -> Document | None:
        """The document, held until the transaction ends; None when it is gone or, without waiting, held by somebody."""
        found: Document | None = await self.session.scalar(
            select(Document)
            .where(Document.id == document_id)
            .with_for_update(skip_locked=not wait)
            .execution_options(populate_existing=True)
        )
        return found

    async def mark_built(self, document_id: str, number: int) -> None:
        await self.session.execute(
            update(Document).where(Document.id == document_id).values(built_for=number)
        )

    async def waiting(self, number: int, *, limit: int, alive: timedelta) -> list[Waiting]:
        """Documents that the rebuild lacks."""
        rows = await self.session.execute(_WAITING, {"number": number, "limit": limit, "alive": alive})
        return [Waiting(*row) for row in rows]

    async def lacking(self) -> int | None:
        """How many documents the installation's rebuild lacks; None where none gets on."""
        found = await self.session.scalar(_LACKING)
        return None if found is None else int(found)

    async def done(self, number: int) -> int:
        """How many documents the rebuild has."""
        return int(await self.session.scalar(_DONE, {"number": number}) or 0)

    async def forget_claims(self) -> None:
        await self.session.execute(_FORGET_CLAIMS)

    async def last_document(self) -> str:
        """The last of all documents in the order in which they are cleaned; empty where there is none."""
        return str(await self.session.scalar(_LAST_DOCUMENT) or "")

    async def clean(self, *, after: str, until: str, kept: str, limit: int) -> str | None:
        """Of some documents remove the chunks of all builds but one; returns the last of them, None at the end."""
        between = {"after": after, "until": until, "limit": limit}
        ids = (await self.session.scalars(_SOME_DOCUMENTS, between)).all()
        if not ids:
            return None
        await self.session.execute(_REMOVE_OTHERS, {"ids": list(ids), "kept": kept})
        await self.session.execute(_COUNT, {"ids": list(ids), "kept": kept})
        return str(ids[-1])

    async def chunk_anew(self, rebuild: IndexRebuild) -> None:
        """Have all documents of the rebuild's organization chunked anew by its settings; what is served stays meanwhile."""
        of = {"organization_id": rebuild.organization_id}
        settings = {
            "size": rebuild.chunk_size_tokens,
            "overlap": rebuild.chunk_overlap_tokens,
            "splitter": rebuild.splitter,
        }
        if any(value is not None for value in settings.values()):
            await self.session.execute(_SET_CHUNKING, {**of, **settings})
        await self.session.execute(_CHUNK_ANEW, of)
        await queue.wake(self.session)
        rebuild.began_at = await self.session.scalar(select(func.now()))

    async def left(self, rebuild: IndexRebuild) -> int:
        """How many documents of an organization's rebuild are yet to be processed."""
        if rebuild.began_at is None:
            return rebuild.documents_total
        values = {"organization_id": rebuild.organization_id, "began_at": rebuild.began_at}
        return int(await self.session.scalar(_LEFT, values) or 0)

    async def withdraw(self, rebuild: IndexRebuild) -> None:
        """Take what has not begun out of the queue again: those documents stay as they are served."""
        if rebuild.began_at is None:
            return
        values = {"organization_id": rebuild.organization_id, "began_at": rebuild.began_at}
        ids = (await self.session.scalars(_HELD, values)).all()
        await self.session.execute(_WITHDRAW, {"ids": list(ids), "began_at": rebuild.began_at})


def build_of(rebuild: IndexRebuild) -> IndexBuild:
    """The build that a rebuild makes."""
    return IndexBuild(
        number=rebuild.number,
        name=name_of(rebuild.embedding_model, rebuild.number),
        fingerprint=rebuild.embedding_model,
        dimension=rebuild.dimension,
        requested_dimension=rebuild.requested_dimension,
        chunk_size_tokens=rebuild.chunk_size_tokens,
        chunk_overlap_tokens=rebuild.chunk_overlap_tokens,
    )
