"""Search: the best chunks for a question within what the caller may see."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from app.core.principal import Principal
from app.core.retrieval import EVERYTHING, Hit, Query, SearchFilter
from app.core.text import clean
from app.db.repositories.chunks import ChunkRepository
from app.rag import index
from app.services import access, embeddings, indexing
from app.services.runtime import Runtime

_MIN_SIMILARITY: Final = {"local": 0.30, "openai": 0.25}
"""Cosine below which the nearest passage has nothing to do with the question, by provider of the embeddings."""

_DENSE_WEIGHT: Final = 0.4

_LEXICALLY_RELEVANT_COVERAGE: Final = 0.4
"""So much of what weighs in a question stands in a passage: relevant, whatever the embedding model makes of it."""


async def search(
    runtime: Runtime, principal: Principal, question: str, *, limit: int, where: SearchFilter = EVERYTHING
) -> list[Hit]:
    """The best chunks, best first, at most `limit`.

    Raises CollectionNotFound for a collection that the caller can't see, EmbeddingUnavailable when the question can't
    be embedded, EmbeddingModelMismatch when the index is of another model.
    """
    runtime.require_matching_index()
    question = clean(question)
    # Outside the transaction: no connection is held while a provider is asked.
    vector = await embeddings.query(runtime.embeddings, question)
    async with runtime.database.direct(principal, planned_for_all=True) as session:
        scope = await access.search_scope(session, principal, where.collection_ids)
        if scope == ():
            return []
        chunks = ChunkRepository(session, principal)
        where = replace(where, collection_ids=scope)
        reached = await chunks.scope(where, runtime.scope_sizes)
        terms = indexing.question_terms(runtime.settings, question, reached)

        async def of_index(*, question: str, embedding: Sequence[float], limit: int) -> list[Hit]:
            return await chunks.search(
                Query(embedding, terms, _DENSE_WEIGHT),
                limit=limit,
                where=where,
                embedding_model=runtime.embeddings.fingerprint,
                exact_up_to=runtime.settings.exact_search_max_values // runtime.embeddings.dimension,
                sizes=runtime.scope_sizes,
            )

        return await index.retrieve(
            runtime.index, question=question, embedding=vector, limit=limit, search=of_index
        )


def is_relevant(runtime: Runtime, hits: list[Hit]) -> bool:
    """Whether any passage is near enough to the question to answer from at all."""
    threshold = runtime.settings.min_relevance
    if threshold is None:
        threshold = _MIN_SIMILARITY[runtime.embeddings.provider]
    return any(hit.similarity >= threshold or hit.coverage >= _LEXICALLY_RELEVANT_COVERAGE for hit in hits)
