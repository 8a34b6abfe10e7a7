"""Search: the best chunks for a question within what the caller may see."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from app.core.principal import Principal
from app.core.retrieval import EVERYTHING, Hit, Query, SearchFilter, Trust
from app.core.text import clean
from app.db.repositories.chunks import ChunkRepository
from app.rag import conversation, fusion, index
from app.rag.llms import Turn
from app.services import access, embeddings, indexing
from app.services.runtime import Runtime


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
) -> list[Hit]:
    """The best chunks, best first, at most `limit`; `explained` adds the ranks of each leg.

    `shown` is what a provider may see of the question: it is embedded in its place where the embedding model is a provider's.
    `granted` are the collections of the bot that searches; None searches what the caller may see.

    The files of the session in `where` are searched besides, which whoever names it must have made sure is the caller's.
    `trust` takes the place of what the embedding model and the question's language deserve. `before` is the conversation, whose
    last question is searched with too, as far as this one is of its subject: for questions that nothing has made standalone.

    Raises CollectionNotFound for a collection that the caller can't see, EmbeddingUnavailable when the question can't
    be embedded, EmbeddingModelMismatch when the index is of another model.
    """
    question = clean(question)
    # Outside the transaction: no connection is held while a provider is asked.
    runtime, vector = await embed(runtime, question, shown=shown)
    earlier = conversation.asked_before(before)
    vector_before = None if earlier is None else await embeddings.query(runtime.embeddings, earlier)
    async with runtime.database.direct(principal, planned_for_all=True) as session:
        scope = await access.search_scope(session, principal, where.collection_ids, granted=granted)
        if scope is not None and where.session_collection_id is not None:
            scope = (*scope, where.session_collection_id)
        if scope == ():
            return []
        chunks = ChunkRepository(session, principal)
        where = replace(where, collection_ids=scope)
        reached = await chunks.scope(where, runtime.scope_sizes)
        asked = indexing.analyse_question(runtime.settings, question, reached)
        if earlier is not None and vector_before is not None:
            own, other = np.asarray(vector), np.asarray(vector_before)
            share = fusion.share_of_question(
                runtime.embeddings.fingerprint,
                _cosine(own, other),
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
    return [
        replace(
            hit,
            relevance=fusion.relevance(hit.similarity, hit.coverage, written=asked.written),
            needed=needed,
        )
        for hit in hits
    ]


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
