"""Search: the best chunks for a question within what the caller may see."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from app.core.counters import counters
from app.core.errors import AppError, ProviderTimeout, ProviderUnavailable
from app.core.principal import Principal
from app.core.retrieval import EVERYTHING, Hit, Query, SearchFilter, Trust
from app.core.text import clean
from app.db.repositories.chunks import ChunkRepository
from app.rag import conversation, fusion, index
from app.rag.llms import Turn
from app.services import access, embeddings, indexing
from app.services.runtime import Runtime

log = structlog.get_logger(__name__)

FAILURES: Final = (ProviderUnavailable, ProviderTimeout)
"""Of a model that is away. One that refuses (a wrong key, an unknown model) waits for somebody to mend it, and should be noticed."""
_WORDS: Final = Trust(weight=0.0, spread=1.0)

Degraded = Callable[[str], None]


async def search(
    runtime: Runtime,
    principal: Principal,
    question: str,
    *,
    limit: int,
    where: SearchFilter = EVERYTHING,
    granted: tuple[str, ...] | None = None,
    explained: bool = False,
    trust: Trust | None = None,
    shown: str | None = None,
    before: Sequence[Turn] = (),
    degraded: Degraded | None = None,
) -> list[Hit]:
    """The best chunks, best first, at most `limit`; `explained` adds the ranks of each leg.

    `shown` is what a provider may see of the question: it is embedded in its place where the embedding model is a provider's.
    `granted` are the collections of the bot that searches; None searches what the caller may see.

    The files of the session in `where` are searched besides, which whoever names it must have made sure is the caller's.
    `trust` takes the place of what the embedding model and the question's language deserve. `before` is the conversation, whose
    last question is searched with too, as far as this one is of its subject: for questions that nothing has made standalone.

    Where the question can't be embedded, `degraded` is told the code of the failure, and words alone are compared; without it, or
    where the settings want none of that, the failure is raised.

    Raises CollectionNotFound for a collection that the caller can't see, EmbeddingUnavailable when the question can't
    be embedded, EmbeddingModelMismatch when the index is of another model.
    """
    question = clean(question)
    # Outside the transaction: no connection is held while a provider is asked.
    earlier = conversation.asked_before(before)
    vector_before: list[float] | None = None
    asyncio.get_running_loop().call_soon(indexing.read_ahead, question)
    try:
        runtime, vector = await embed(runtime, question, shown=shown)
        if earlier is not None:
            vector_before = await embeddings.query(runtime.embeddings, earlier)
    except FAILURES as failure:
        if degraded is None or not runtime.settings.search_by_words:
            raise
        runtime = await _by_words(runtime, failure, degraded)
        vector = _no_meaning(runtime)
        trust = _WORDS
    async with runtime.database.single(principal) as session:
        scope = await access.search_scope(session, principal, where.collection_ids, granted=granted)
        if scope is not None and where.session_collection_id is not None:
            scope = (*scope, where.session_collection_id)
        if scope == ():
            return []
        chunks = ChunkRepository(session, principal)
        where = replace(where, collection_ids=scope)
        reached = await chunks.scope(where, runtime.scope_sizes)
        asked = indexing.analyse_question(runtime.settings, question, reached)
        if earlier is not None:
            own = np.asarray(vector)
            other = own if vector_before is None else np.asarray(vector_before)
            share = fusion.share_of_question(
                runtime.embeddings.fingerprint,
                0.0 if vector_before is None else _cosine(own, other),
                spoken=asked.spoken,
                points_back=conversation.points_back(question),
            )
            if share < 1:
                vector = _mixed(own, other, share=share)
                before_it = indexing.analyse_question(runtime.settings, earlier, reached)
                asked = indexing.with_terms_before(asked, before_it, share=share)
        trusted = trust or fusion.trust(
            runtime.embeddings.fingerprint, question, spoken=asked.spoken, written=asked.written
        )

        async def of_index(*, question: str, embedding: Sequence[float], limit: int) -> list[Hit]:
            return await chunks.search(
                Query(embedding, asked.terms, trusted),
                limit=limit,
                where=where,
                embedding_model=runtime.index_build,
                exact_up_to=runtime.settings.exact_search_max_values // runtime.embeddings.dimension,
                sizes=runtime.scope_sizes,
                explained=explained,
            )

        hits = await index.retrieve(
            runtime.index, question=question, embedding=vector, limit=limit, search=of_index
        )
    needed = runtime.settings.min_relevance
    if needed is None:
        needed = fusion.needed_relevance(runtime.embeddings.fingerprint, spoken=asked.spoken)
    if trust is _WORDS:
        hits = [hit for hit in hits if hit.lexical > 0]
    for hit in hits:
        if trust is _WORDS:
            hit.similarity = 0.0
            hit.relevance = fusion.relevance_by_words(hit.coverage)
        else:
            hit.relevance = fusion.relevance(hit.similarity, hit.coverage, written=asked.written)
        hit.needed = needed
        hit.doubt = fusion.doubt(
            runtime.embeddings.fingerprint, hit.relevance, needed=needed, spoken=asked.spoken
        )
    return hits


async def _by_words(runtime: Runtime, failure: AppError, degraded: Degraded) -> Runtime:
    """Go on without the embedding model, with the build of the index that is served."""
    runtime = runtime.on(await runtime.live.fresh())
    runtime.require_matching_index()
    counters.add("search_by_words", reason=failure.code)
    log.warning("searched_by_words", reason=failure.code)
    degraded(failure.code)
    return runtime


def _no_meaning(runtime: Runtime) -> list[float]:
    """A vector for the statement, which compares some: as good as any, since none of it counts."""
    return [1.0] + [0.0] * (runtime.embeddings.dimension - 1)


async def embed(runtime: Runtime, question: str, *, shown: str | None = None) -> tuple[Runtime, list[float]]:
    """The vector of a question, or of what a provider may see of it, and the runtime that it can be compared in.

    Raises as `embeddings.question` does.
    """
    return await embeddings.question(runtime, clean(question), shown=None if shown is None else clean(shown))


def is_relevant(hits: Iterable[Hit], *, minimum: float | None = None) -> bool:
    """Whether any passage has enough to do with the question to answer from it at all; `minimum` is the bot's own."""
    return any(hit.relevance >= (hit.needed if minimum is None else minimum) for hit in hits)


def _cosine(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second) or 1.0))


def _mixed(first: NDArray[np.float64], second: NDArray[np.float64], *, share: float) -> list[float]:
    """The direction between two vectors, so much of it the first one's."""
    first, second = (each / (np.linalg.norm(each) or 1.0) for each in (first, second))
    mixed: list[float] = (share * first + (1 - share) * second).tolist()
    return mixed
