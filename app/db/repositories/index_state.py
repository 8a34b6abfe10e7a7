"""Which build of the index is served. For the system principal, but for `hold`, which belongs to whoever stores chunks."""

from typing import Final

from sqlalchemy import exists, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import IndexMoved
from app.core.index_build import IndexBuild
from app.db.engine import AnyTransaction
from app.db.models import Chunk, IndexState

CHANNEL: Final = "ibid_index"
"""Channel: another build is served, or a rebuild began, went on or ended."""

_HOLD: Final = text("SELECT hold_index()")
_NOTIFY: Final = text("SELECT pg_notify(:channel, '')")
_TRY_LOCK: Final = text("SELECT pg_try_advisory_xact_lock(hashtext('ibid index switch'))")
_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtext('ibid index switch'))")
_LOCK_WITHIN: Final = text("SELECT set_config('lock_timeout', :milliseconds, true)")
_LOCK_NOT_AVAILABLE: Final = "55P03"


async def hold(session: AnyTransaction, build: str) -> None:
    """Have this build stay the one that is served until the transaction ends: the first thing in one that stores chunks.

    Raises IndexMoved where another one is served.
    """
    served = await session.scalar(_HOLD, {})
    if served != build:
        raise IndexMoved


async def try_to_lock(session: AsyncSession) -> bool:
    """Hold off all who store chunks until the transaction ends; False while somebody does."""
    return bool(await session.scalar(_TRY_LOCK))


async def lock(session: AsyncSession, *, within_seconds: float) -> bool:
    """The same by waiting for those who do, while all who come later wait behind; False when that took too long."""
    try:
        async with session.begin_nested():
            await session.execute(_LOCK_WITHIN, {"milliseconds": str(round(1000 * within_seconds))})
            await session.execute(_LOCK)
            await session.execute(_LOCK_WITHIN, {"milliseconds": "0"})
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        return False
    return True


async def announce(session: AsyncSession) -> None:
    """Have every process look, once the transaction commits."""
    await session.execute(_NOTIFY, {"channel": CHANNEL})


class IndexStateRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def served(self) -> IndexBuild | None:
        """The build that is served; None before the first start."""
        state = await self.session.get(IndexState, 1, populate_existing=True)
        return None if state is None else _build(state)

    async def is_empty(self) -> bool:
        """Whether there is no chunk at all."""
        return not await self.session.scalar(select(exists().where(Chunk.id.is_not(None))))

    async def claim(self, *, embedding_model: str, dimension: int) -> IndexBuild:
        """Make the index this model's when it is nobody's or empty; returns what is served then."""
        await self.session.execute(text("SELECT pg_advisory_xact_lock(hashtext('ibid index state'))"))
        state = await self.session.get(IndexState, 1, populate_existing=True)
        if state is None:
            state = IndexState(id=1, embedding_model=embedding_model, dimension=dimension, number=0)
            self.session.add(state)
        elif state.embedding_model != embedding_model and await self.is_empty():
            state.embedding_model, state.dimension = embedding_model, dimension
            state.build = state.requested_dimension = None
        return _build(state)

    async def serve(self, build: IndexBuild) -> None:
        """Switch to another build, whose chunks are complete."""
        state = await self.session.get(IndexState, 1, populate_existing=True)
        assert state is not None
        state.build, state.number = build.name, build.number
        state.embedding_model, state.dimension = build.fingerprint, build.dimension
        state.requested_dimension = build.requested_dimension
        state.chunk_size_tokens, state.chunk_overlap_tokens = (
            build.chunk_size_tokens,
            build.chunk_overlap_tokens,
        )
        await self.session.flush()
        await announce(self.session)


def _build(state: IndexState) -> IndexBuild:
    return IndexBuild(
        number=state.number,
        name=state.build or state.embedding_model,
        fingerprint=state.embedding_model,
        dimension=state.dimension,
        requested_dimension=state.requested_dimension,
        chunk_size_tokens=state.chunk_size_tokens,
        chunk_overlap_tokens=state.chunk_overlap_tokens,
    )
