"""Embedding on behalf of a request: what the provider can't do becomes an error with a status."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from app.core.errors import ProviderError, ProviderTimeout, ProviderUnavailable
from app.rag.embedding import EmbeddingModel
from app.rag.errors import EmbeddingTimeout, EmbeddingUnavailable, UnexpectedEmbedding


async def query(model: EmbeddingModel, text: str) -> list[float]:
    """The vector of a question. Raises ProviderError, ProviderUnavailable or ProviderTimeout."""
    with _translated():
        return await model.embed_query(text)


async def texts(model: EmbeddingModel, batch: Sequence[str]) -> NDArray[np.float32]:
    """The vectors (len(batch), dimension) of document texts, in their order. Raises as `query` does."""
    with _translated():
        return await model.embed_texts(batch)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except EmbeddingTimeout as error:
        raise ProviderTimeout("The embedding provider did not answer in time.") from error
    except UnexpectedEmbedding as error:
        raise ProviderError("The embedding provider sent an answer that is no embedding.") from error
    except EmbeddingUnavailable as error:
        details = {} if error.status is None else {"provider_status": error.status}
        if error.status in (400, 401, 403, 404):
            raise ProviderError(
                "The embedding provider did not accept the request; check OPENAI_API_KEY and EMBEDDING_MODEL.",
                details=details,
            ) from error
        raise ProviderUnavailable(
            "The embedding provider can't be reached or is overloaded; try again shortly.",
            details=details,
            retry_after_seconds=error.retry_after_seconds,
        ) from error
