"""Embedding on behalf of a request: what the provider can't do becomes an error with a status."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from app.core.errors import InvalidRebuild, ProviderError, ProviderTimeout, ProviderUnavailable
from app.core.index_build import IndexBuild
from app.rag.embedding import EmbeddingModel
from app.rag.errors import EmbeddingTimeout, EmbeddingUnavailable, UnexpectedEmbedding
from app.rag.openai_embeddings import Counted
from app.services.runtime import Runtime


async def query(model: EmbeddingModel, text: str) -> list[float]:
    """The vector of a question. Raises ProviderError, ProviderUnavailable or ProviderTimeout."""
    with _translated():
        return await model.embed_query(text)


async def question(runtime: Runtime, text: str, *, shown: str | None = None) -> tuple[Runtime, list[float]]:
    """The vector of a question, and the runtime that stays with the build of the index that it can be compared with.

    `shown` is what a provider may see of it, where that is less: the model may change between local and a provider's meanwhile.

    Raises as `query` does, and EmbeddingModelMismatch.
    """
    served = await runtime.live.fresh()
    while True:
        pinned = runtime.on(served)
        pinned.require_matching_index()
        is_local = served.embeddings.provider == "local"
        asked = text if shown is None or is_local else shown
        vector = await (
            query(served.embeddings, asked) if is_local else _asked(runtime, served.embeddings, asked)
        )
        now = await runtime.live.fresh()
        if now is served or (now.matches and now.embeddings is served.embeddings):
            return pinned.on(now), vector
        served = now


async def _asked(runtime: Runtime, model: EmbeddingModel, text: str) -> list[float]:
    """Of a provider, which is left alone for a while after it has failed again and again. Raises as `query` does."""
    circuit = runtime.circuits.of("embeddings", model.name, "")
    circuit.admit()
    outcome = circuit.given_up
    try:
        vector = await query(model, text)
        outcome = circuit.succeeded
    except (ProviderUnavailable, ProviderTimeout):
        outcome = circuit.failed
        raise
    finally:
        outcome()
    return vector


async def of_build(runtime: Runtime, build: IndexBuild) -> EmbeddingModel:
    """The model of a build of the index. Raises as `query` does, and InvalidRebuild where there is no such model here."""
    with _translated():
        return await runtime.live.model_of(build)


async def loaded(runtime: Runtime, name: str, dimension: int | None) -> EmbeddingModel:
    """A model by its name, which has answered with vectors of the length that it is said to have. Raises as `of_build` does."""
    with _translated():
        model = await runtime.live.load(name, dimension)
        try:
            await model.embed_query("Ibid")
        except UnexpectedEmbedding as error:
            raise InvalidRebuild(f"The embedding model {name} can't be used: {error}") from error
    return model


async def texts(
    model: EmbeddingModel, batch: Sequence[str], counted: Counted = lambda _: None
) -> NDArray[np.float32]:
    """The vectors (len(batch), dimension) of document texts, in their order. Raises as `query` does.

    `counted` is told the tokens of each request to a provider, None where it does not say.
    """
    with _translated():
        return await model.embed_texts(batch, counted)


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
