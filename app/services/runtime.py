"""What one process has open while it serves: made at start by a composition root, given to every service."""

from dataclasses import dataclass, field

from app.core.bots import Bot
from app.core.config import Settings
from app.core.crypto import Keyring
from app.core.errors import EmbeddingModelMismatch
from app.db.engine import Database
from app.db.notifications import Listener
from app.db.repositories.chunks import ScopeSizes
from app.rag.circuits import Circuits
from app.rag.embedding import EmbeddingModel
from app.rag.index import ChunkIndex
from app.rag.llms import ChatModel
from app.services.background import Background
from app.services.bursts import Counters
from app.services.live import LiveTurns
from app.services.web_pages import PageFetcher
from app.storage.originals import Originals
from app.storage.spool import Spool


@dataclass(frozen=True, slots=True)
class Runtime:
    """`default_bot` is that of the environment; `chat_model`, its model, is None in extractive mode.

    `indexed_model` is the embedding model that the stored vectors are of.
    """

    settings: Settings
    database: Database
    embeddings: EmbeddingModel
    index: ChunkIndex
    default_bot: Bot
    chat_model: ChatModel | None
    indexed_model: str
    indexed_dimension: int
    scope_sizes: ScopeSizes
    keyring: Keyring
    counters: Counters
    originals: Originals
    spool: Spool
    listener: Listener
    web: PageFetcher
    circuits: Circuits = field(default_factory=Circuits)
    turns: LiveTurns = field(default_factory=LiveTurns)
    background: Background = field(default_factory=Background)

    def require_matching_index(self) -> None:
        """Raise EmbeddingModelMismatch where vectors of two models would be compared."""
        if self.indexed_model != self.embeddings.fingerprint:
            raise EmbeddingModelMismatch(
                f"The index was built with {self.indexed_model}, but {self.embeddings.fingerprint} is configured."
                " Set EMBEDDING_MODEL (and the provider's key) back, or delete all documents and ingest them again.",
                details={"indexed": self.indexed_model, "configured": self.embeddings.fingerprint},
            )
