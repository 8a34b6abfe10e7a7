"""What a server adds to the provider's own time, with a provider that takes as long as a real one.

With a provider that answers at once, the latency of sixteen clients is their throughput in another unit: they only queue for
the machine. Here they wait for the provider most of the time, as in reality, and what they wait beyond it is what is added.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks import corpus
from benchmarks.load import PRODUCT_STREAM, PROVIDER_STREAM, Load, Outcome, drive
from benchmarks.processes import Server, control
from benchmarks.report import Details, Figure, Report, percentile
from benchmarks.sides import Side

CLIENTS: Final = 16
_EMBEDDING_SECONDS: Final = 0.1
_FIRST_SECONDS: Final = 0.3
_TOKENS: Final = 40
_TOKENS_A_SECOND: Final = 60.0
_ANSWER_SECONDS: Final = _FIRST_SECONDS + _TOKENS / _TOKENS_A_SECOND
_PACE: Final = {
    "emb_latency": _EMBEDDING_SECONDS,
    "ttft": _FIRST_SECONDS,
    "tps": _TOKENS_A_SECOND,
    "tokens": float(_TOKENS),
}
_AT_ONCE: Final = {"emb_latency": 0.0, "ttft": 0.0, "tps": 0.0}
_NOTE: Final = (
    f"added: the provider takes {_EMBEDDING_SECONDS:g} s for an embedding, {_FIRST_SECONDS:g} s to the first token and"
    f" {_ANSWER_SECONDS:.2f} s for an answer. From each chat's time the times of its own calls are taken off (p50 of"
    f" {CLIENTS} clients that ask the provider and nothing else), a rewriting of the question being one call more. The"
    f" clients begin at random moments."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """`rounds` of so many chats, and `streams`, by CLIENTS; the other sides are asked in one round."""

    rounds: int
    chats: int
    streams: int

    @property
    def sessions(self) -> int:
        return self.rounds * (self.chats + self.streams)


@dataclass(frozen=True, slots=True)
class Own:
    """How long the provider takes by itself, in milliseconds, as a client sees it that does nothing else."""

    embedding: float
    first: float
    answer: float


@dataclass(slots=True)
class Added:
    """What one side added, in milliseconds, an element a chat."""

    side: Side
    whole: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    calls: int = 0
    counted_calls: float = 0.0
    errors: int = 0
    first_error: str = ""

    def take_chats(self, outcome: Outcome, own: Own) -> None:
        for latency in outcome.latency_ms:
            calls = _answers_within(latency - 1000 * _EMBEDDING_SECONDS)
            self.calls += calls
            self.whole.append(latency - own.embedding - calls * own.answer)
        self._take_errors(outcome)

    def take_streams(self, outcome: Outcome, own: Own) -> None:
        least = 1000 * (_EMBEDDING_SECONDS + _FIRST_SECONDS)
        for first in outcome.first_ms:
            if first >= least:  # a refusal comes before any token of the model could
                rewritings = _answers_within(first - least)
                self.first.append(first - own.embedding - own.first - rewritings * own.answer)
        self._take_errors(outcome)

    def _take_errors(self, outcome: Outcome) -> None:
        self.errors += outcome.errors
        self.first_error = self.first_error or outcome.first_error


def _answers_within(milliseconds: float) -> int:
    return max(0, math.floor(milliseconds / (1000 * _ANSWER_SECONDS)))


def measure(
    report: Report, name: str, plan: Plan, provider: Server, product: Side, others: Sequence[Side]
) -> None:
    """Ask all sides at a model's pace; leaves the provider answering at once."""
    control(provider, **_PACE)
    own = _own(provider)
    ours = Added(product)
    for round_ in range(plan.rounds):
        _ask(ours, own, provider, plan.chats, seed=round_)
        ours.take_streams(_streamed(product, plan.streams, seed=round_), own)
    theirs = [Added(side) for side in others]
    for added in theirs:
        _ask(added, own, provider, plan.chats, seed=0)
    control(provider, **_AT_ONCE)
    _report(report, name, ours, theirs)


def _ask(added: Added, own: Own, provider: Server, count: int, *, seed: int) -> None:
    before = control(provider)["chat"]
    side = added.side
    bodies = list(itertools.islice(side.bodies, count))
    outcome = drive(
        Load(
            side.server,
            "/chat",
            bodies,
            CLIENTS,
            key=side.key,
            ramp_seconds=_EMBEDDING_SECONDS + _ANSWER_SECONDS,
            seed=seed,
            max_seconds=120.0,
        )
    )
    added.counted_calls += control(provider)["chat"] - before
    added.take_chats(outcome, own)


def _streamed(side: Side, count: int, *, seed: int) -> Outcome:
    return drive(
        Load(
            side.server,
            "/chat",
            [{**body, "stream": True} for body in itertools.islice(side.bodies, count)],
            CLIENTS,
            key=side.key,
            stream=PRODUCT_STREAM,
            ramp_seconds=_EMBEDDING_SECONDS + _ANSWER_SECONDS,
            seed=seed,
            max_seconds=120.0,
        )
    )


def _own(provider: Server) -> Own:
    embedding = drive(
        Load(
            provider,
            "/v1/embeddings",
            [
                {"model": "any", "input": [question], "encoding_format": "base64"}
                for question in _questions(320)
            ],
            CLIENTS,
            ramp_seconds=_EMBEDDING_SECONDS,
            seed=0,
        )
    )
    asked: list[dict[str, Any]] = [
        {"model": "any", "stream": True, "messages": [{"role": "user", "content": question}]}
        for question in _questions(64)
    ]
    answer = drive(
        Load(
            provider,
            "/v1/chat/completions",
            asked,
            CLIENTS,
            stream=PROVIDER_STREAM,
            ramp_seconds=_ANSWER_SECONDS,
            seed=0,
        )
    )
    return Own(
        embedding=percentile(embedding.latency_ms, 50),
        first=percentile(answer.first_ms, 50),
        answer=percentile(answer.latency_ms, 50),
    )


def _questions(count: int) -> Iterator[str]:
    return itertools.islice(itertools.cycle(corpus.questions()), count)


def _report(report: Report, name: str, ours: Added, theirs: Sequence[Added]) -> None:
    table = Details(
        f"{name}: added to the provider's own time, {CLIENTS} clients (ms)",
        ("server", "p50", "p95", "p99", "first token p50", "first token p95", "chats", "errors"),
    )
    for added in (ours, *theirs):
        whole = (percentile(added.whole, share) for share in (50, 95, 99))
        first = (percentile(added.first, share) if added.first else "" for share in (50, 95))
        table.rows.append((added.side.name, *whole, *first, len(added.whole), added.errors))
        if added.calls != added.counted_calls:
            report.notes.append(
                f"{name}: {added.side.name}: {added.calls} calls by their time, {added.counted_calls:.0f} by the"
                " provider's count: some added more than an answer takes, and are shown as one answer less"
            )
        if added.first_error:
            report.notes.append(f"{name}: {added.side.name}: first error: {added.first_error}")
    report.details.append(table)
    report.notes.append(f"{name}: {_NOTE}")
    at = f"{CLIENTS} clients"
    report.figures.extend(
        [
            Figure(
                f"{name}: added to the provider's time, {at}, p50",
                percentile(ours.whole, 50),
                "ms",
                at_most=12,
            ),
            Figure(
                f"{name}: added to the provider's time, {at}, p99",
                percentile(ours.whole, 99),
                "ms",
                at_most=40,
            ),
            Figure(
                f"{name}: added before the first token, {at}, p50",
                percentile(ours.first, 50),
                "ms",
                at_most=10,
            ),
            Figure(f"{name}: errors at a model's pace", ours.errors, "", at_most=0),
        ]
    )
