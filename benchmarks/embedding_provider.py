"""A provider of embeddings that costs next to nothing: `python -m benchmarks.embedding_provider CONFIGURATION --port N`.

It answers with vectors that were made beforehand, since what is measured with it shares its cores. The simulator beside the
repository makes them of the texts, which takes 0.1 s a megabyte.
"""

import argparse
import asyncio
import base64
import json
from typing import Any, Final, cast

import httptools
import numpy as np
import uvloop

_VECTORS: Final = 1_024


class Provider:
    """Its vectors, how long it takes, and what it was asked."""

    def __init__(self, dims: int) -> None:
        vectors = np.random.default_rng(1).standard_normal((_VECTORS, dims)).astype("<f4")
        self.items = [
            b'{"object":"embedding","index":%d,"embedding":"%s"}' % (place, base64.b64encode(vector))
            for place, vector in enumerate(vectors)
        ]
        self.latency_seconds = 0.0
        self.embeddings = 0

    def control(self, change: dict[str, float]) -> bytes:
        if change.get("reset"):
            self.embeddings = 0
        self.latency_seconds = change.get("emb_latency", self.latency_seconds)
        return json.dumps({"counters": {"embeddings": self.embeddings}}).encode()

    def embed(self, request: dict[str, Any]) -> bytes:
        self.embeddings += 1
        texts = request["input"]
        data = b",".join(self.items[: 1 if isinstance(texts, str) else len(texts)])
        return (
            b'{"object":"list","data":[%s],"model":"any","usage":{"prompt_tokens":1,"total_tokens":1}}' % data
        )


class Connection(asyncio.Protocol):
    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._parser: Any = httptools.HttpRequestParser(self)
        self._path = b""
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._path, self._body = b"", []

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_body(self, piece: bytes) -> None:
        self._body.append(piece)

    def on_message_complete(self) -> None:
        body, provider = b"".join(self._body), self._provider
        if self._path.endswith(b"/embeddings"):
            answer = provider.embed(json.loads(body))
            asyncio.get_running_loop().call_later(provider.latency_seconds, self._reply, answer)
        elif self._path == b"/control":
            self._reply(provider.control(json.loads(body)))
        else:
            self._reply(b'{"status":"ok"}')

    def _reply(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)


async def serve(provider: Provider, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(provider), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configuration", type=json.loads)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    uvloop.run(serve(Provider(arguments.configuration["dims"]), arguments.port))


if __name__ == "__main__":
    main()
