"""The plain server that the product is compared with: LlamaIndex's own chat engine as its documentation puts it together.

FastAPI, a `PGVectorStore` with its HNSW index under a `VectorStoreIndex`, and for each request a chat engine with a memory
of its own that holds the conversation so far. Everything is asynchronous, and the clients of the provider are kept; no
accounts, nothing stored. Same uvicorn options as the product's.

What is not chosen is what `as_chat_engine` makes by itself: its mode `condense_plus_context`, where the model rewrites
follow-ups before the search, and LlamaIndex's `Memory`. With `lean` it is the cheapest that the documentation shows: the mode
`context`, which searches with the question as it is, and the deprecated `ChatMemoryBuffer`.

It runs in an environment of its own, which `benchmarks.plain_side` makes: the adapters need older versions of SQLAlchemy and
openai than the product. So nothing of the product or of the other benchmarks is imported here.
`python -m benchmarks.plain CONFIGURATION --port PORT`
"""

import argparse
import json
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from llama_index.core import VectorStoreIndex
from llama_index.core.chat_engine.types import BaseChatEngine, ChatMode
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI
from pydantic import BaseModel

from benchmarks.plain_store import vector_store

_SOURCES: Final = 5
_MEMORY_TOKENS: Final = 3_900  # as in the documentation


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
        self.lean = configuration["lean"]
        self.llm = OpenAI(model="gpt-4o-mini", **provider)
        self.index = VectorStoreIndex.from_vector_store(
            vector_store(configuration, indexed=True),
            embed_model=OpenAIEmbedding(
                model="text-embedding-3-small", dimensions=configuration["dims"], **provider
            ),
        )

    def engine(self, history: list[ChatMessage]) -> BaseChatEngine:
        if not self.lean:
            return self.index.as_chat_engine(llm=self.llm, chat_history=history, similarity_top_k=_SOURCES)
        memory = ChatMemoryBuffer.from_defaults(chat_history=history, token_limit=_MEMORY_TOKENS)
        return self.index.as_chat_engine(
            chat_mode=ChatMode.CONTEXT, llm=self.llm, memory=memory, similarity_top_k=_SOURCES
        )

    async def chat(self, question: Question) -> dict[str, Any]:
        engine = self.engine([ChatMessage(role=turn.role, content=turn.content) for turn in question.history])
        response = await engine.achat(question.message)
        sources = [
            {"id": source.node.node_id, "text": source.node.get_content(), "similarity": source.score}
            for source in response.source_nodes
        ]
        return {"answer": response.response, "sources": sources}


async def health() -> dict[str, str]:
    return {"status": "ok"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configuration", type=json.loads)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
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
