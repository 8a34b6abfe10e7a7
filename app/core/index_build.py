"""A build of the index: chunks of one cutting with vectors of one model. One is served, another may be on its way."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IndexBuild:
    """`fingerprint` names the embedding model (see `app.rag.embedding`), `number` the rebuild that made it: 0 is the first.

    Chunk sizes are those of collections without their own; None leaves them to the settings. `requested_dimension` is
    what is asked of the provider; None takes the model's own.
    """

    number: int
    name: str
    fingerprint: str
    dimension: int
    requested_dimension: int | None = None
    chunk_size_tokens: int | None = None
    chunk_overlap_tokens: int | None = None

    @property
    def model(self) -> str:
        """The model's name, as EMBEDDING_MODEL has it."""
        return model_of(self.fingerprint)


def name_of(fingerprint: str, number: int) -> str:
    """What the chunks of a rebuild carry: the model alone would not tell two cuttings apart."""
    return f"{fingerprint}#{number}"


def model_of(fingerprint: str) -> str:
    """The model's name in a fingerprint."""
    return fingerprint.rsplit("/", maxsplit=4)[0].rpartition("@")[0]
