"""The plain server's store: `python -m benchmarks.plain_store CONFIGURATION` fills it with what the product's database holds.

LlamaIndex's `PGVectorStore` makes its table and its index itself and writes its own rows. Runs in the plain server's
environment.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from typing import Any, Final

import psycopg2
from llama_index.core.schema import NodeRelationship, ObjectType, RelatedNodeInfo, TextNode
from llama_index.vector_stores.postgres import PGVectorStore

_HNSW: Final = {"hnsw_m": 16, "hnsw_ef_construction": 64, "hnsw_ef_search": 40}  # as in the documentation
_ROWS_A_BATCH: Final = 1_000
_CHUNKS: Final = """
SELECT c.id, c.document_id, d.title, c.text, c.char_start, c.char_end, c.embedding::vector::text
  FROM chunks c JOIN documents d ON d.id = c.document_id
 WHERE c.organization_id = %s
"""


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
    vector_store(configuration, indexed=True)._initialize()  # builds the index, at the first use otherwise
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configuration", type=json.loads)
    fill(parser.parse_args().configuration)
