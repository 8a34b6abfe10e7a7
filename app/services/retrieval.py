"""Search: the best chunks for a question within what the caller may see."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from app.core.principal import Principal
from app.core.retrieval import EVERYTHING, Hit, Query, SearchFilter, Trust
from app.core.text import clean
from app.db.repositories.chunks import ChunkRepository
from app.rag import fusion, index
from app.services import access, embeddings, indexing
from app.services.runtime import Runtime


async def search(
    runtime: Runtime,
    principal: Principal,
    question: str,
    *,
    limit: int,
    where: SearchFilter = EVERYTHING,
    explained: bool = False,
    trust: Trust | None = None,
    vector: list[float] | None = None,
) -> list[Hit]:
    """The best chunks, best first, at most `limit`; `explained` adds the ranks of each leg.

    `vector` is that of `embed`, where the caller has it already.

    `trust` takes the place of what the embedding model and the question's language deserve.

    Raises CollectionNotFound for a collection that the caller can't see, EmbeddingUnavailable when the question can't
    be embedded, EmbeddingModelMismatch when the index is of another model.
    """
    runtime.require_matching_index()
    question = clean(question)
    # Outside the transaction: no connection is held while a provider is asked.
    if vector is None:
        vector = await embed(runtime, question)
    async with runtime.database.direct(principal, planned_for_all=True) as session:
        scope = await access.search_scope(session, principal, where.collection_ids)
        if scope == ():
            return []
        chunks = ChunkRepository(session, principal)
        where = replace(where, collection_ids=scope)
        reached = await chunks.scope(where, runtime.scope_sizes)
        asked = indexing.analyse_question(runtime.settings, question, reached)
        trusted = trust or fusion.trust(
            runtime.embeddings.fingerprint, spoken=asked.spoken, written=asked.written
        )

        async def of_index(*, question: str, embedding: Sequence[float], limit: int) -> list[Hit]:
            return await chunks.search(
                Query(embedding, asked.terms, trusted),
                limit=limit,
                where=where,
                embedding_model=runtime.embeddings.fingerprint,
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


async def embed(runtime: Runtime, question: str, *, as_provider_sees_it: str | None = None) -> list[float]:
    """The vector of a question; of what a provider may see of it where the embedding model is a provider's.

    Raises EmbeddingUnavailable when it can't be embedded.
    """
    if as_provider_sees_it is not None and not runtime.settings.uses_local_embeddings:
        question = as_provider_sees_it
    return await embeddings.query(runtime.embeddings, clean(question))


def is_relevant(hits: Iterable[Hit], *, at_least: float | None = None) -> bool:
    """Whether any passage has enough to do with the question to answer from it at all (`at_least`: or as much as this)."""
    return any(hit.relevance >= (hit.needed if at_least is None else at_least) for hit in hits)
