"""What can go wrong in the rag package. `services` turns these into the errors that callers of the API meet.

The docstring of a class is the beginning of its message.
"""


class RagError(Exception):
    """Something failed while a text was read, embedded or answered."""

    def __init__(self, detail: str | None = None) -> None:
        message = " ".join((type(self).__doc__ or "").split())
        super().__init__(f"{message} ({detail})" if detail else message)


class InvalidEmbeddingSettings(RagError):
    """The settings of the embedding model can't work."""


class EmbeddingDimensionUnknown(RagError):
    """How long this model's vectors are is known only after its first answer: call `warm_up` before."""


class EmbeddingUnavailable(RagError):
    """The embedding provider can't be reached, is overloaded or refuses the request."""

    def __init__(
        self,
        detail: str | None = None,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        """Of the provider's answer; None when there was none."""
        self.retry_after_seconds = retry_after_seconds
        """What the provider asked for, however long."""


class EmbeddingTimeout(EmbeddingUnavailable):
    """The embedding provider did not answer in time."""


class UnexpectedEmbedding(EmbeddingUnavailable):
    """The embedding provider answered, but not with the vectors that were asked for."""


class ChatRefused(RagError):
    """The chat provider answered with an error."""

    def __init__(self, *, status: int, retry_after_seconds: float | None) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.retry_after_seconds = retry_after_seconds
