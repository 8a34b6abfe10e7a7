"""The process that makes the load: `python -m benchmarks.load_client`, a load on standard input, the outcome on output.

Kept light, so that it is not what is measured: prepared bytes, one parser in C, nothing else in the process.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any, cast

import httptools
import uvloop


class Tally:
    """What all connections together have seen."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.stream: dict[str, bytes] | None = spec["stream"] and {
            name: marker.encode() for name, marker in spec["stream"].items()
        }
        self.latency_ms: list[float] = []
        self.first_ms: list[float] = []
        self.ending_ms: list[float] = []
        self.arrivals: list[tuple[int, float, float, float]] = []
        self.errors = self.refused = 0
        self.first_error = ""

    def failed(self, what: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or what[:500]


class Connection(asyncio.Protocol):
    """A connection that carries one question at a time; `answered` resolves at the end of the answer."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.transport: asyncio.Transport
        self.parser: Any = httptools.HttpResponseParser(self)
        self.answered: asyncio.Future[None] | None = None
        self.lost = False

    def ask(self, place: int, request: bytes) -> "asyncio.Future[None]":
        self.place = place
        self.body: list[bytes] = []
        self.first = self.last = self.end = 0.0
        self.answered = asyncio.get_running_loop().create_future()
        self.started = time.monotonic()
        self.transport.write(request)
        return self.answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def connection_lost(self, _: Exception | None) -> None:
        self.lost = True
        if self.answered is not None and not self.answered.done():
            self.tally.failed("the connection was closed before the answer ended")
            self.answered.set_result(None)

    def on_body(self, piece: bytes) -> None:
        self.body.append(piece)
        stream = self.tally.stream
        if stream is None:
            return
        now = time.monotonic()
        if stream["piece"] in piece:
            self.first = self.first or now
            self.last = now
        if stream["end"] in piece:
            self.end = now

    def on_message_complete(self) -> None:
        now = time.monotonic()
        tally = self.tally
        body = b"".join(self.body)
        status = self.parser.get_status_code()
        if status != 200:
            tally.failed(f"{status} {body.decode(errors='replace')}")
        elif tally.stream and (tally.stream["failure"] in body or not self.end):
            tally.failed("the stream failed: " + body[-300:].decode(errors="replace"))
        else:
            tally.latency_ms.append((now - self.started) * 1000)
            tally.refused += b'"refused":true' in body
            if self.first:
                tally.first_ms.append((self.first - self.started) * 1000)
                tally.ending_ms.append((self.end - self.last) * 1000)
                tally.arrivals.append((self.place, self.first, self.last, self.end))
        if not self.parser.should_keep_alive():
            self.transport.close()
            self.lost = True
        assert self.answered is not None
        if not self.answered.done():
            self.answered.set_result(None)


async def work(
    port: int, requests: Iterator[tuple[int, bytes]], tally: Tally, *, wait_seconds: float, deadline: float
) -> None:
    await asyncio.sleep(wait_seconds)
    connection: Connection | None = None
    for place, request in requests:
        if time.monotonic() > deadline:
            break
        if connection is None or connection.lost:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(tally), "127.0.0.1", port
            )
        await connection.ask(place, request)
    if connection is not None:
        connection.transport.close()


async def main(spec: dict[str, Any]) -> dict[str, Any]:
    tally = Tally(spec)
    headers = {"Host": "localhost", "Content-Type": "application/json", **spec["headers"]}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    bodies = [json.dumps(body).encode() for body in spec["bodies"]]
    requests = enumerate(
        [
            f"POST {spec['path']} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
            for body in bodies
        ]
    )
    started, cpu = time.monotonic(), time.process_time()
    deadline = started + spec["max_seconds"]
    concurrency = spec["concurrency"]
    shares = [place / concurrency for place in range(concurrency)]
    if spec["seed"] is not None:
        chance = random.Random(spec["seed"])
        shares = [chance.random() for _ in shares]
    waits = [spec["ramp_seconds"] * share for share in shares]
    tasks = [
        asyncio.create_task(work(spec["port"], requests, tally, wait_seconds=wait, deadline=deadline))
        for wait in waits
    ]
    _, unfinished = await asyncio.wait(tasks, timeout=spec["max_seconds"] + spec["grace_seconds"])
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu
    for task in unfinished:
        task.cancel()
        tally.failed("no answer in time")
    for task in tasks:
        if task not in unfinished and (error := task.exception()) is not None:
            tally.failed(f"{type(error).__name__}: {error}")
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "latency_ms": tally.latency_ms,
        "first_ms": tally.first_ms,
        "ending_ms": tally.ending_ms,
        "arrivals": tally.arrivals,
        "errors": tally.errors,
        "refused": tally.refused,
        "first_error": tally.first_error,
    }


if __name__ == "__main__":
    json.dump(uvloop.run(main(json.load(sys.stdin))), sys.stdout)
