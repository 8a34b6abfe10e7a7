"""How long after the provider's own pieces those of a streamed answer reach the client: its first token, its last, its end.

Search, storing and all that comes before the provider is asked are no part of it. A relay stands between the server and the
provider and notes when the provider's pieces pass; the client notes when the server's arrive; both read the same clock.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks import corpus, layouts
from benchmarks.layouts import Layout
from benchmarks.load import PRODUCT_STREAM, Load, Outcome, drive
from benchmarks.processes import Postgres, Server, control, python_server
from benchmarks.relay import Passage, passages_in
from benchmarks.report import Details, Figure, Report, percentile
from benchmarks.sides import Side, sides

_GOAL_MS: Final = 10
_SHARES: Final = (50, 95, 99)
_NOTE: Final = (
    "after the provider's: from the moment just before a relay passes the provider's bytes on to the server (a process between"
    " the two) until the client has the event that they became. The provider's end is its [DONE], which the simulator sends"
    " one token's time after its last token; unmatched are streams for which it was not asked exactly once."
)


@dataclass(slots=True)
class Relay:
    """Stands between the servers and the provider."""

    server: Server
    notes: Path
    _read_up_to: int = 0

    def take(self) -> dict[str, list[Passage]]:
        """By question, what was noted since this was asked last."""
        control(self.server)  # passes the relay too, so that it has done with all that passed before
        with self.notes.open() as file:
            file.seek(self._read_up_to)
            noted = passages_in(file.read())
            self._read_up_to = file.tell()
        found: dict[str, list[Passage]] = {}
        for passage in noted:
            found.setdefault(passage.question, []).append(passage)
        return found


@dataclass(frozen=True, slots=True)
class Plan:
    """So many streams a round and at once, begun over about as long as one of them takes."""

    rounds: int
    concurrency: int
    streams: int
    stream_seconds: float


@contextmanager
def relayed(
    layout: Layout, database: Postgres, provider: Server, folder: Path
) -> Iterator[tuple[Relay, tuple[Side, Side]]]:
    """A relay to the provider, and the limit and the product that take it for the provider."""
    notes = folder / "relay.jsonl"
    configuration = {"provider_port": provider.port, "notes": str(notes)}
    with python_server("benchmarks.relay", configuration, folder) as server:
        settings = layouts.settings_for(server)
        with sides(layout, database, server, settings, folder, chats=0) as both:
            yield Relay(server, notes), both


@dataclass(slots=True)
class Lag:
    """What one side's streams came later, in milliseconds, an element a stream."""

    side: Side
    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    end: list[float] = field(default_factory=list)
    end_after_last: list[float] = field(default_factory=list)
    unmatched: int = 0
    errors: int = 0
    first_error: str = ""

    def take(self, questions: list[str], outcome: Outcome, passed: dict[str, list[Passage]]) -> None:
        self.errors += outcome.errors
        self.first_error = self.first_error or outcome.first_error
        for place, first, last, end in outcome.arrivals:
            noted = passed.get(questions[place], [])
            if len(noted) != 1:  # none where the model was not asked, two where it was asked again
                self.unmatched += 1
                continue
            provider = noted[0]
            self.first.append(1000 * (first - provider.first))
            self.last.append(1000 * (last - provider.last))
            self.end.append(1000 * (end - provider.end))
            self.end_after_last.append(1000 * (end - provider.last))


def measure(report: Report, plan: Plan, relay: Relay, asked: Sequence[Side]) -> None:
    """Ask each side in turn, the provider at whatever pace it has."""
    questions = list(itertools.islice(dict.fromkeys(corpus.questions()), plan.streams))
    lags = [Lag(side) for side in asked]
    for lag in lags:
        _ask(lag.side, questions[: plan.concurrency], plan)  # warms up
    relay.take()
    for _ in range(plan.rounds):
        for lag in lags:
            outcome = _ask(lag.side, questions, plan)
            lag.take(questions, outcome, relay.take())
    _report(report, lags, f"{plan.concurrency} at a time")
    if _NOTE not in report.notes:
        report.notes.append(_NOTE)


def _ask(side: Side, questions: list[str], plan: Plan) -> Outcome:
    """The product knows who asks by a key, and a stream by the body; the limit has a path for it."""
    path, stream = ("/stream", {}) if side.key is None else ("/chat", {"stream": True})
    return drive(
        Load(
            side.server,
            path,
            [{"message": question, **stream} for question in questions],
            plan.concurrency,
            key=side.key,
            stream=PRODUCT_STREAM,
            ramp_seconds=plan.stream_seconds,
        )
    )


def _report(report: Report, lags: list[Lag], at: str) -> None:
    table = Details(
        f"After the provider's own, {at} (ms)",
        ("", *(f"p{share}" for share in _SHARES), "streams", "unmatched", "errors"),
    )
    for lag in lags:
        for what, values in (
            ("first token after the provider's", lag.first),
            ("last token after the provider's", lag.last),
            ("end after the provider's end", lag.end),
            ("end after the provider's last token", lag.end_after_last),
        ):
            shares = (percentile(values, share) for share in _SHARES)
            table.rows.append((f"{lag.side.name}: {what}", *shares, len(values), lag.unmatched, lag.errors))
        if lag.first_error:
            report.notes.append(f"{lag.side.name}: first error: {lag.first_error}")
    report.details.append(table)
    for lag in lags:
        if lag.side.key is not None:
            report.figures.extend(_figures(lag, at))


def _figures(lag: Lag, at: str) -> Iterator[Figure]:
    for share in _SHARES:
        name = f"first token after the provider's, {at}, p{share}"
        yield Figure(name, percentile(lag.first, share), "ms", at_most=_GOAL_MS)
    for what, values in (
        ("last token after the provider's", lag.last),
        ("end after the provider's end", lag.end),
        ("end after the provider's last token", lag.end_after_last),
    ):
        for share in (50, 99):
            yield Figure(f"{what}, {at}, p{share}", percentile(values, share), "ms")
    yield Figure(f"errors through the relay, {at}", lag.errors, "", at_most=0)
