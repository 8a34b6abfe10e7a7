"""The LlamaIndex index over our vector store, and the retriever that a search uses."""

from typing import cast

from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.vector_store.retrievers import VectorIndexRetriever
from llama_index.core.schema import QueryBundle

from app.core.retrieval import Hit
from app.rag.vector_store import ChunkSearch, ChunkVectorStore, hit_of

ChunkIndex = VectorStoreIndex


def build(embedder: BaseEmbedding) -> ChunkIndex:
    """One index serves the whole process; what differs between callers comes with each query."""
    return VectorStoreIndex.from_vector_store(ChunkVectorStore(), embed_model=embedder)


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
