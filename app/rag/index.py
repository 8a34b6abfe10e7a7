"""The LlamaIndex index over our vector store, and the query that a search makes."""

from collections.abc import Sequence
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import BaseNode, TransformComponent
from llama_index.core.vector_stores.types import VectorStoreQuery

from app.core.retrieval import Hit
from app.rag.vector_store import ChunkSearch, ChunkVectorStore, hit_of

ChunkIndex = VectorStoreIndex


class _ChunkedBefore(TransformComponent):
    """Chunks come here as they are: `app.rag.chunking` made them."""

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        return nodes


def build(embedder: BaseEmbedding) -> ChunkIndex:
    """One index serves the whole process; what differs between callers comes with each query."""
    # The default transformation is a splitter whose tokenizer alone takes 41 MB.
    return VectorStoreIndex.from_vector_store(
        ChunkVectorStore(), embed_model=embedder, transformations=[_ChunkedBefore()]
    )


async def retrieve(
    index: ChunkIndex, *, question: str, embedding: list[float], limit: int, search: ChunkSearch
) -> list[Hit]:
    """The best chunks for an embedded question, through the caller's own `search`.

    Asks the index's store itself: the events that a retriever makes of it, with a copy of every argument's `repr`, take as
    long as the whole search does in this process.
    """
    query = VectorStoreQuery(query_str=question, query_embedding=embedding, similarity_top_k=limit)
    found = await index.vector_store.aquery(query, search=search)
    return [hit_of(node) for node in found.nodes or ()]
