"""The plain server that the product is compared with: LlamaIndex's own chat engine as its documentation puts it together.

FastAPI, a `PGVectorStore` with its HNSW index under a `VectorStoreIndex`, and for each request a chat engine with a memory
of its own that holds the conversation so far. Everything asynchronous that can be, the clients of the provider kept; no
accounts, nothing stored. Same uvicorn options as the product's. It runs in an environment of its own
(`benchmarks.plain_side` makes it), because the adapters need older versions of SQLAlchemy and openai than the product:
nothing of the product or of the other benchmarks is imported here.
`python -m benchmarks.plain CONFIGURATION --port PORT`, or with `--fill` to store what another database holds.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from typing import Any, Final

import psycopg2
import uvicorn
from fastapi import FastAPI
from llama_index.core import VectorStoreIndex
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import NodeRelationship, ObjectType, RelatedNodeInfo, TextNode
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI
from llama_index.vector_stores.postgres import PGVectorStore
from pydantic import BaseModel

_SOURCES: Final = 5
_MEMORY_TOKENS: Final = 3_900  # as in the documentation's examples
_HNSW: Final = {"hnsw_m": 16, "hnsw_ef_construction": 64, "hnsw_ef_search": 40}
_ROWS_A_BATCH: Final = 1_000
_CHUNKS: Final = """
SELECT c.id, c.document_id, d.title, c.text, c.char_start, c.char_end, c.embedding::vector::text
  FROM chunks c JOIN documents d ON d.id = c.document_id
 WHERE c.organization_id = %s
"""


class Turn(BaseModel):
    role: str
    content: str


class Question(BaseModel):
    message: str
    history: list[Turn] = []


class Plain:
    """What the handlers share: the index, and the models that it is asked with."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        provider = {"api_key": "sk-benchmark", "api_base": configuration["provider"] + "/v1"}
        self.mode = configuration["mode"]
        self.llm = OpenAI(model="gpt-4o-mini", **provider)
        self.index = VectorStoreIndex.from_vector_store(
            vector_store(configuration, indexed=True),
            embed_model=OpenAIEmbedding(
                model="text-embedding-3-small", dimensions=configuration["dims"], **provider
            ),
        )

    async def chat(self, question: Question) -> dict[str, Any]:
        engine = self.index.as_chat_engine(
            chat_mode=self.mode,
            llm=self.llm,
            memory=ChatMemoryBuffer.from_defaults(
                chat_history=[ChatMessage(role=turn.role, content=turn.content) for turn in question.history],
                token_limit=_MEMORY_TOKENS,
            ),
            similarity_top_k=_SOURCES,
        )
        response = await engine.achat(question.message)
        sources = [
            {"id": source.node.node_id, "text": source.node.get_content(), "similarity": source.score}
            for source in response.source_nodes
        ]
        return {"answer": response.response, "sources": sources}


def vector_store(configuration: dict[str, Any], *, indexed: bool) -> PGVectorStore:
    """The store in its own database; with `indexed` its HNSW index is made where it is missing, and used."""
    _, _, place = configuration["database_url"].partition("://")
    return PGVectorStore.from_params(
        connection_string=f"postgresql+psycopg2://{place}",
        async_connection_string=f"postgresql+asyncpg://{place}",
        table_name="passages",
        embed_dim=configuration["dims"],
        hnsw_kwargs=dict(_HNSW) if indexed else None,
    )


def fill(configuration: dict[str, Any]) -> None:
    """Store the chunks of an organization of the product, with their vectors, and build the index behind them."""
    store = vector_store(configuration, indexed=False)
    nodes = _nodes(configuration["product_url"], configuration["organization_id"])
    while batch := list(itertools.islice(nodes, _ROWS_A_BATCH)):
        store.add(batch)
    vector_store(configuration, indexed=True)._initialize()  # done at the first use otherwise
    connection = psycopg2.connect(configuration["database_url"])
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
    connection.close()


def _nodes(url: str, organization_id: str) -> Iterator[TextNode]:
    connection = psycopg2.connect(url)
    with connection.cursor("chunks") as cursor:
        cursor.itersize = _ROWS_A_BATCH
        cursor.execute(_CHUNKS, (organization_id,))
        for id_, document_id, title, text, start, end, embedding in cursor:
            document = RelatedNodeInfo(node_id=document_id, node_type=ObjectType.DOCUMENT)
            yield TextNode(
                id_=id_,
                text=text,
                metadata={"title": title},
                start_char_idx=start,
                end_char_idx=end,
                relationships={NodeRelationship.SOURCE: document},
                embedding=json.loads(embedding),
            )
    connection.close()


async def health() -> dict[str, str]:
    return {"status": "ok"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configuration", type=json.loads)
    parser.add_argument("--port", type=int)
    parser.add_argument("--fill", action="store_true")
    arguments = parser.parse_args()
    if arguments.fill:
        fill(arguments.configuration)
        return
    app = FastAPI()
    app.get("/health")(health)
    app.post("/chat")(Plain(arguments.configuration).chat)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=arguments.port,
        http="h11",
        log_config=None,
        access_log=False,
        server_header=False,
    )


if __name__ == "__main__":
    main()
