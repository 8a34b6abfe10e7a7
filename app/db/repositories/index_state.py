"""The state of the index as a whole: which model its vectors are of. For the system principal."""

from sqlalchemy import exists, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Chunk, IndexState


class IndexStateRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def claim(self, *, embedding_model: str, dimension: int) -> tuple[str, int]:
        """Make the index this model's when it is nobody's or empty; returns whose it is, and its dimension."""
        await self.session.execute(text("SELECT pg_advisory_xact_lock(hashtext('ibid index state'))"))
        state = await self.session.get(IndexState, 1)
        if state is None:
            self.session.add(IndexState(id=1, embedding_model=embedding_model, dimension=dimension))
            return embedding_model, dimension
        if state.embedding_model != embedding_model and not await self.session.scalar(
            select(exists().where(Chunk.id.is_not(None)))
        ):
            state.embedding_model, state.dimension = embedding_model, dimension
        return state.embedding_model, state.dimension
