"""What one process has open while it serves: made at start by a composition root, given to every service."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from app.core.bots import Bot
from app.core.config import Settings
from app.core.crypto import Keyring
from app.core.errors import EmbeddingModelMismatch, IndexMoved
from app.db.engine import Database
from app.db.notifications import Listener
from app.db.repositories.chunks import ScopeSizes
from app.rag.analysts import Analysts
from app.rag.circuits import Circuits
from app.rag.cross_encoder import CrossEncoder
from app.rag.embedding import EmbeddingModel
from app.rag.index import ChunkIndex
from app.rag.llms import ChatModel
from app.services.background import Background
from app.services.bot_models import BotModels
from app.services.budget_facts import BudgetFacts
from app.services.bursts import Counters
from app.services.live_index import LiveIndex, Served
from app.services.live_turns import LiveTurns
from app.services.remembered_keys import RememberedKeys
from app.services.web_pages import PageFetcher
from app.storage.originals import Originals
from app.storage.spool import Spool

Result = TypeVar("Result")

_SWITCHES: Final = 3
"""How many switches of the index one piece of work may meet; a rebuild takes longer than that."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """`default_bot` is that of the environment; `chat_model`, its model, is None in extractive mode.

    `pinned` is the build of the index that a piece of work stays with.
    """

    settings: Settings
    database: Database
    live: LiveIndex
    default_bot: Bot
    chat_model: ChatModel | None
    bot_models: BotModels
    cross_encoder: CrossEncoder | None
    scope_sizes: ScopeSizes
    keyring: Keyring
    counters: Counters
    originals: Originals
    spool: Spool
    listener: Listener
    budget_facts: BudgetFacts
    web: PageFetcher
    analysts: Analysts
    turns: LiveTurns = field(default_factory=LiveTurns)
    background: Background = field(default_factory=Background)
    circuits: Circuits = field(default_factory=Circuits)
    remembered_keys: RememberedKeys = field(default_factory=RememberedKeys)
    pinned: Served | None = None

    @property
    def served(self) -> Served:
        """The build that is searched and added to; ask `on` for one that does not change in the middle."""
        return self.pinned or self.live.served

    @property
    def embeddings(self) -> EmbeddingModel:
        return self.served.embeddings

    @property
    def index(self) -> ChunkIndex:
        return self.served.store

    @property
    def index_build(self) -> str:
        """The name that the chunks of the build carry."""
        return self.served.build.name

    @property
    def indexed_model(self) -> str:
        """The fingerprint of the embedding model that the stored vectors are of."""
        return self.served.build.fingerprint

    @property
    def indexed_dimension(self) -> int:
        return self.served.build.dimension

    @property
    def chunk_size_tokens(self) -> int:
        """Of collections without a size of their own."""
        return self.served.build.chunk_size_tokens or self.settings.chunk_size_tokens

    @property
    def chunk_overlap_tokens(self) -> int:
        own = self.served.build.chunk_overlap_tokens
        return self.settings.chunk_overlap_tokens if own is None else own

    def on(self, served: Served) -> "Runtime":
        """The same, staying with this build."""
        return self if self.pinned is served else replace(self, pinned=served)

    def require_matching_index(self) -> None:
        """Raise EmbeddingModelMismatch where vectors of two models would be compared."""
        if not self.served.matches:
            raise EmbeddingModelMismatch(
                f"The index was built with {self.indexed_model}, which this service can't use: it has"
                f" {self.embeddings.fingerprint}. Set EMBEDDING_MODEL (and the provider's key) back, or have the index built"
                " anew with another model (POST /admin/index/rebuild).",
                details={"indexed": self.indexed_model, "configured": self.embeddings.fingerprint},
            )


async def on_served_index(runtime: Runtime, work: Callable[[Runtime], Awaitable[Result]]) -> Result:
    """The work with the build that is served; anew with the next one, where the index is switched before it is stored.

    Raises IndexMoved only when that happens again and again.
    """
    for _ in range(_SWITCHES):
        try:
            return await work(runtime.on(await runtime.live.fresh()))
        except IndexMoved:
            await runtime.live.look()
    return await work(runtime.on(await runtime.live.fresh()))
