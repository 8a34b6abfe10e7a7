"""The limit: the least that a chat server on this database and this provider can do, to compare the product with.

Bare FastAPI and an asyncpg pool: one embedding call, one dense search, one chat call. No accounts, no full text, no
history, nothing stored. Same uvicorn options as the product's, same connection settings, same scope, same index.
`python -m benchmarks.limit CONFIGURATION --port PORT`
"""

import argparse
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import asyncpg
import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from pgvector import HalfVector
from pgvector.asyncpg import register_vector

_SOURCES: Final = 5
_CONNECTIONS: Final = 10
_SERVER_SETTINGS: Final = {
    "jit": "off",
    "plan_cache_mode": "force_custom_plan",
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.ef_search": "100",
    "hnsw.max_scan_tuples": "40000",
}
_EXACT: Final = """
SELECT id, document_id, text, 1 - (embedding <=> $1) AS similarity FROM chunks
 WHERE organization_id = $2 ORDER BY (embedding <=> $1) + 0 LIMIT {limit}
"""
_BY_INDEX: Final = """
SELECT id, document_id, text, 1 - ({expression} <=> $1) AS similarity FROM chunks
 WHERE organization_id = $2 AND {predicate} ORDER BY {expression} <=> $1 LIMIT {limit}
"""


def search_statement(index: dict[str, str | None] | None) -> str:
    """Exact within the organization, or by the index whose expression and predicate are given."""
    if index is None:
        return _EXACT.format(limit=_SOURCES)
    return _BY_INDEX.format(
        expression=index["expression"], predicate=index["predicate"] or "true", limit=_SOURCES
    )


class Limit:
    """What the handlers share: a pool of connections, an HTTP client, and where everything is."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        self.provider = configuration["provider"] + "/v1"
        self.database_url = configuration["database_url"]
        self.organization_id = configuration["organization_id"]
        self.statement = search_statement(configuration["index"])

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        async with (
            asyncpg.create_pool(
                self.database_url,
                min_size=_CONNECTIONS,
                max_size=_CONNECTIONS,
                server_settings=_SERVER_SETTINGS,
                init=register_vector,
            ) as self.pool,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200)) as self.client,
        ):
            yield

    async def find(self, question: str) -> list[asyncpg.Record]:
        request = {"model": "any", "input": [question], "encoding_format": "base64"}
        async with self.client.post(f"{self.provider}/embeddings", json=request) as response:
            embedding = json.loads(await response.read())["data"][0]["embedding"]
        vector = np.frombuffer(base64.b64decode(embedding), "<f4").astype(np.float16)
        rows: list[asyncpg.Record] = await self.pool.fetch(
            self.statement, HalfVector(vector), self.organization_id
        )
        return rows

    def chat_request(self, question: str, rows: list[asyncpg.Record]) -> dict[str, Any]:
        passages = "\n\n".join(f"[{n}] {row['text']}" for n, row in enumerate(rows, start=1))
        system = {"role": "system", "content": f"Answer from these sources.\n\n{passages}"}
        return {"model": "any", "messages": [system, {"role": "user", "content": question}]}

    async def chat(self, request: Request) -> dict[str, Any]:
        question = (await request.json())["message"]
        rows = await self.find(question)
        async with self.client.post(
            f"{self.provider}/chat/completions", json=self.chat_request(question, rows)
        ) as response:
            answer = json.loads(await response.read())["choices"][0]["message"]["content"]
        return {"answer": answer, "sources": [dict(row) for row in rows]}

    async def stream(self, request: Request) -> StreamingResponse:
        question = (await request.json())["message"]
        rows = await self.find(question)
        body = self.chat_request(question, rows) | {"stream": True}

        async def events() -> AsyncIterator[bytes]:
            async with self.client.post(f"{self.provider}/chat/completions", json=body) as response:
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        for choice in json.loads(line[6:])["choices"]:
                            if piece := choice["delta"].get("content"):
                                delta = json.dumps({"type": "delta", "delta": piece})
                                yield f"event: delta\ndata: {delta}\n\n".encode()
            yield b'event: done\ndata: {"type":"done"}\n\n'

        return StreamingResponse(events(), media_type="text/event-stream")


async def health() -> dict[str, str]:
    return {"status": "ok"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configuration", type=json.loads)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    limit = Limit(arguments.configuration)
    app = FastAPI(lifespan=limit.running)
    app.get("/health")(health)
    app.post("/chat")(limit.chat)
    app.post("/stream", response_model=None)(limit.stream)
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
