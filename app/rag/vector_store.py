"""Our table of chunks as a LlamaIndex vector store.

The store holds no connection. Each query brings its own `search`, already bound to one caller's transaction, so
isolation is decided where the transaction begins and not in here.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from llama_index.core.schema import BaseNode, TextNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

from app.core.retrieval import Hit

_HIT: Final = "hit"


class ChunkSearch(Protocol):
    """The search of the chunks table, for one caller and one set of filters."""

    async def __call__(self, *, question: str, embedding: Sequence[float], limit: int) -> list[Hit]:
        """The best chunks, best first, at most `limit` of them."""


class ChunkVectorStore(BasePydanticVectorStore):
    """Reads chunks; writing them is a matter of the ingestion's transaction (see `app.services.ingestion`)."""

    stores_text: bool = True
    is_embedding_query: bool = True

    @classmethod
    def class_name(cls) -> str:
        return "ChunkVectorStore"

    @property
    def client(self) -> None:
        return None

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        raise TypeError("chunks are stored by app.services.ingestion, in the document's transaction")

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        raise TypeError("chunks are deleted with their document by app.services.documents")

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        raise TypeError("only the asynchronous query is supported")

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Search with the caller's `search`; a retriever hands it on from its `vector_store_kwargs`."""
        search: ChunkSearch = kwargs["search"]
        if query.query_embedding is None or query.query_str is None:
            raise ValueError("the query needs its text and its embedding")
        hits = await search(
            question=query.query_str, embedding=query.query_embedding, limit=query.similarity_top_k
        )
        return VectorStoreQueryResult(
            nodes=[TextNode(id_=hit.chunk_id, text=hit.text, metadata={_HIT: hit}) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[hit.chunk_id for hit in hits],
        )


def hit_of(node: BaseNode) -> Hit:
    """The hit that a node of this store stands for."""
    hit = node.metadata[_HIT]
    assert isinstance(hit, Hit)
    return hit
