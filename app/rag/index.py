"""The LlamaIndex index over our vector store, and the retriever that a search uses."""

from collections.abc import Sequence
from typing import Any, cast

from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.vector_store.retrievers import VectorIndexRetriever
from llama_index.core.schema import BaseNode, QueryBundle, TransformComponent

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
    """The best chunks for an embedded question, through the caller's own `search`."""
    retriever = cast(
        VectorIndexRetriever,
        index.as_retriever(similarity_top_k=limit, vector_store_kwargs={"search": search}),
    )
    nodes = await retriever.aretrieve(QueryBundle(query_str=question, embedding=embedding))
    return [hit_of(scored.node) for scored in nodes]
