"""The index as one process knows it: which build is served, and the embedding model that goes with it.

Processes follow a switch by notification, and look by themselves now and then. What they know is good for a while only
(`fresh`): the build that was served before is kept for twice as long, so nobody searches one that is being removed.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from app.core import waiting
from app.core.errors import AppError, InvalidRebuild
from app.core.index_build import IndexBuild
from app.core.principal import SYSTEM
from app.db.engine import Database
from app.db.notifications import Listener
from app.db.repositories.index_state import CHANNEL, IndexStateRepository
from app.db.repositories.rebuilds import RebuildRepository
from app.rag import index
from app.rag.embedding import EmbeddingModel
from app.rag.errors import EmbeddingUnavailable, RagError
from app.rag.index import ChunkIndex
from app.services.room import Lag, Room

log = structlog.get_logger(__name__)

_LONGEST_PAUSE_SECONDS: Final = 5.0
_TRIED_AGAIN_SECONDS: Final = 30.0
"""A model that could not be had is not asked for more often."""


class ModelMaker(Protocol):
    def __call__(self, name: str, dimension: int | None) -> EmbeddingModel:
        """The model of this name, not yet loaded. Raises InvalidEmbeddingSettings where the settings don't provide it."""


@dataclass(frozen=True, slots=True)
class Served:
    """A build with the model of this process for it; the two differ in their fingerprints where that can't be had."""

    build: IndexBuild
    embeddings: EmbeddingModel
    store: ChunkIndex

    @property
    def matches(self) -> bool:
        return self.build.fingerprint == self.embeddings.fingerprint


class LiveIndex:
    """What is served now, for all of a process; its models live as long as it does."""

    def __init__(
        self,
        database: Database,
        make_model: ModelMaker,
        build: IndexBuild,
        embeddings: EmbeddingModel,
        *,
        keep_seconds: float,
        stored_at_once: int,
    ) -> None:
        self._database = database
        self._make_model = make_model
        self._models: dict[tuple[str, int | None], EmbeddingModel] = {}
        self._tried: dict[tuple[str, int | None], float] = {}
        self._looking = asyncio.Lock()
        self.room = Room(stored_at_once)
        """Whoever stores chunks takes a place before a connection: while a switch lets them wait, others need connections too."""
        self._good_for_seconds = keep_seconds / 2
        self._looked_at = time.monotonic()
        self.served = Served(build, embeddings, index.build(embeddings.embedder))
        if self.served.matches:
            self._models[build.fingerprint, build.requested_dimension] = embeddings

    async def fresh(self) -> Served:
        """What is served, known recently enough to search it; asks the database only where nobody did for long."""
        if time.monotonic() - self._looked_at > self._good_for_seconds:
            await self.look()
        return self.served

    async def look(self) -> None:
        """Find out what is served, and have the model ready that a rebuild will switch to."""
        async with self._looking:
            asked_at = time.monotonic()
            async with self._database.unit_of_work(SYSTEM) as session:
                build = await IndexStateRepository(session).served()
                rebuilds = RebuildRepository(session)
                target = await rebuilds.target()
                lacking = None if target is None else await rebuilds.lacking()
            if build is not None and (build != self.served.build or not self.served.matches):
                await self._follow(build)
            self._looked_at = asked_at
            self.room.look(None if target is None or lacking is None else Lag(target.number, lacking))
            if target is not None:
                await self._prepare(target)

    async def model_of(self, build: IndexBuild) -> EmbeddingModel:
        """The model of a build, loaded. Raises InvalidRebuild where the settings of this process don't provide it.

        Raises EmbeddingUnavailable too, when a provider has to be asked and is away.
        """
        key = build.fingerprint, build.requested_dimension
        if key not in self._models:
            model = await self.load(build.model, build.requested_dimension)
            if key not in self._models:
                raise InvalidRebuild(
                    f"The embedding model is {model.fingerprint} now, and not {build.fingerprint}."
                )
        return self._models[key]

    async def load(self, name: str, dimension: int | None) -> EmbeddingModel:
        """A model by its name, ready to embed. Raises InvalidRebuild and EmbeddingUnavailable."""
        try:
            model = self._make_model(name, dimension)
            await model.warm_up()
        except EmbeddingUnavailable:
            raise
        except RagError as error:
            raise InvalidRebuild(f"The embedding model {name} can't be used: {error}") from error
        known = self._models.setdefault((model.fingerprint, dimension), model)
        if known is not model:
            await model.aclose()
        return known

    async def _follow(self, build: IndexBuild) -> None:
        embeddings = self.served.embeddings
        if build.fingerprint != embeddings.fingerprint:
            embeddings = await self._prepare(build) or embeddings
        if build != self.served.build or embeddings is not self.served.embeddings:
            self.served = Served(build, embeddings, index.build(embeddings.embedder))
            log.info("index_followed", build=build.name, usable=self.served.matches)

    async def _prepare(self, build: IndexBuild) -> EmbeddingModel | None:
        key = build.fingerprint, build.requested_dimension
        if key not in self._models and time.monotonic() < self._tried.get(key, 0):
            return None
        try:
            return await self.model_of(build)
        except (AppError, RagError) as error:
            self._tried[key] = time.monotonic() + _TRIED_AGAIN_SECONDS
            log.error("embedding_model_not_usable", build=build.name, reason=str(error))
            return None

    @asynccontextmanager
    async def running(self, listener: Listener) -> AsyncIterator[None]:
        """Follow the index for as long as the block lasts."""
        task = asyncio.create_task(self._forever(listener), name="index")
        try:
            yield
        finally:
            await waiting.cancelled(task)
            for model in self._models.values():
                await model.aclose()

    async def _forever(self, listener: Listener) -> None:
        pause_seconds = min(_LONGEST_PAUSE_SECONDS, self._good_for_seconds / 2)
        with listener.watching(CHANNEL) as news:
            while True:
                await waiting.happened(news, pause_seconds)
                news.clear()
                try:
                    await self.look()
                except AppError as error:  # the database is away: whoever needs it will say so
                    log.debug("index_not_looked_at", reason=error.code)
                except Exception as error:  # the top of a background loop
                    log.error("index_not_followed", exc_info=error)
