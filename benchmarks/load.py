"""Load on a server from a process of its own, and what it saw: latencies, errors, its own CPU."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.processes import ROOT, Server
from benchmarks.report import Failed, percentile

GRACE_SECONDS: Final = 30.0
"""How long answers that are under way at the end are waited for."""


@dataclass(frozen=True, slots=True)
class Stream:
    """By which bytes the events of a stream are told apart."""

    piece: str
    end: str
    failure: str


PRODUCT_STREAM: Final = Stream(piece="event: delta", end="event: done", failure="event: error")
PROVIDER_STREAM: Final = Stream(piece='"delta":{"content"', end="[DONE]", failure='"error":')


@dataclass(frozen=True, slots=True)
class Load:
    """POST these bodies to one path over `concurrency` connections, each asking again when it has its answer."""

    server: Server
    path: str
    bodies: Sequence[Any]
    concurrency: int
    max_seconds: float = 60.0
    key: str | None = None
    stream: Stream | None = None
    ramp_seconds: float = 0.0
    """Over which the connections begin one after the other, so that they do not ask in step."""
    seed: int | None = None
    """With it they begin at random moments of the ramp, some of them together, as people do."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one load saw; lists have one element an answer, in milliseconds."""

    seconds: float
    cpu_seconds: float
    latency_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    """Until the first piece of a stream."""
    ending_ms: list[float] = field(default_factory=list)
    """From the last piece of a stream to its final event."""
    arrivals: list[tuple[int, float, float, float]] = field(default_factory=list)
    """Of each stream with a piece: the place of its body in the load, and when the first piece, the last and the final event
    came, in seconds of the monotonic clock, which all processes of a machine share. Of one load alone."""
    errors: int = 0
    refused: int = 0
    first_error: str = ""

    @property
    def count(self) -> int:
        return len(self.latency_ms)

    @property
    def per_second(self) -> float:
        return self.count / self.seconds


def drive(load: Load) -> Outcome:
    """Run a load to its end. Raises Failed when nothing at all was answered."""
    authorization = {"Authorization": f"Bearer {load.key}"} if load.key else {}
    stream = load.stream
    spec = {
        "port": load.server.port,
        "path": load.path,
        "headers": authorization,
        "bodies": list(load.bodies),
        "concurrency": load.concurrency,
        "max_seconds": load.max_seconds,
        "ramp_seconds": load.ramp_seconds,
        "seed": load.seed,
        "grace_seconds": GRACE_SECONDS,
        "stream": stream and {"piece": stream.piece, "end": stream.end, "failure": stream.failure},
    }
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.load_client"],
        input=json.dumps(spec).encode(),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        check=True,
        start_new_session=True,
        timeout=load.max_seconds + GRACE_SECONDS + 60,
    )
    outcome = Outcome(**json.loads(finished.stdout))
    if not outcome.count:
        raise Failed(f"no answer from {load.path}: {outcome.first_error} (see {load.server.log})")
    return outcome


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """Several rounds of one load as one."""
    return Outcome(
        seconds=sum(o.seconds for o in outcomes),
        cpu_seconds=sum(o.cpu_seconds for o in outcomes),
        latency_ms=[ms for o in outcomes for ms in o.latency_ms],
        first_ms=[ms for o in outcomes for ms in o.first_ms],
        ending_ms=[ms for o in outcomes for ms in o.ending_ms],
        errors=sum(o.errors for o in outcomes),
        refused=sum(o.refused for o in outcomes),
        first_error=next((o.first_error for o in outcomes if o.first_error), ""),
    )


class HealthProbe(threading.Thread):
    """Asks GET /health every ten milliseconds over a connection of its own: how long a server's event loop is busy.

    The lag of a moment is counted from when the question was due, so a stall of 200 ms counts as the twenty questions
    that it held up, not as one.
    """

    _INTERVAL_SECONDS: Final = 0.01

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._port = server.port
        self._stopping = threading.Event()
        self.lag_ms: list[float] = []

    def __enter__(self) -> "HealthProbe":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join()

    def percentile_ms(self, share: float) -> float:
        return percentile(self.lag_ms, share)

    def run(self) -> None:
        question = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self._port), timeout=GRACE_SECONDS) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            due = time.perf_counter()
            while not self._stopping.is_set():
                time.sleep(max(0.0, due - time.perf_counter()))
                connection.sendall(question)
                received = b""
                while not received.endswith(b"}"):
                    received += connection.recv(4096)
                answered = time.perf_counter()
                while due < answered:
                    self.lag_ms.append((answered - due) * 1000)
                    due += self._INTERVAL_SECONDS
