"""Twenty people who log in at once: how long everybody else waits, and whether the time tells who has an account."""

import http.client
import json
import secrets
import statistics
import time
from dataclasses import dataclass
from typing import Final

from benchmarks.load import HealthProbe, Load, drive
from benchmarks.processes import Server, service, workspace
from benchmarks.report import Details, Figure, Report, percentile

_CONCURRENCY: Final = 20
_EMAIL: Final = "admin@example.com"
_GUESSES: Final = 9
"""Of one account; the tenth would be the last that is looked at."""


@dataclass(frozen=True, slots=True)
class Plan:
    logins: int
    quiet_seconds: float


_FULL: Final = Plan(logins=400, quiet_seconds=3)
_QUICK: Final = Plan(logins=60, quiet_seconds=1)


def run(*, quick: bool) -> Report:
    plan = _QUICK if quick else _FULL
    report = Report("logins")
    password = secrets.token_urlsafe(12)
    settings = {"SUPERADMIN_EMAIL": _EMAIL, "SUPERADMIN_PASSWORD": password, "LOG_LEVEL": "warning"}
    with workspace() as folder, service(settings, folder) as server:
        _one_login(server, _EMAIL, password)
        with HealthProbe(server) as quiet:
            time.sleep(plan.quiet_seconds)
        body = {"username": _EMAIL, "password": password}
        cpu = server.cpu_seconds()
        with HealthProbe(server) as busy:
            outcome = drive(Load(server, "/auth/login", [body] * plan.logins, _CONCURRENCY))
        cpu = server.cpu_seconds() - cpu
        known, unknown = _wrong_guesses(server)
    table = Details("Answers of GET /health (ms)", ("", "p50", "p95", "p99", "longest"))
    for name, probe in (("nobody logs in", quiet), (f"{_CONCURRENCY} at once log in", busy)):
        table.rows.append((name, *(probe.percentile_ms(share) for share in (50, 95, 99, 100))))
    report.details.append(table)
    report.figures.extend(
        [
            Figure(
                f"event-loop lag p99, {_CONCURRENCY} logins at once", busy.percentile_ms(99), "ms", at_most=50
            ),
            Figure("errors", outcome.errors + outcome.refused, "", at_most=0),
            Figure("logins", outcome.per_second, "/s"),
            Figure("a login, p50", percentile(outcome.latency_ms, 50), "ms"),
            Figure("server CPU a login", 1000 * cpu / outcome.count, "ms"),
            Figure("wrong password, known account", known, "ms"),
            Figure("wrong password, unknown account", unknown, "ms"),
            Figure("known from unknown", abs(known - unknown), "ms", at_most=5),
        ]
    )
    if outcome.first_error:
        report.notes.append(f"first error: {outcome.first_error}")
    return report


def _wrong_guesses(server: Server) -> tuple[float, float]:
    """The median time of a wrong guess at an account that exists and at one that does not, asked by turns."""
    known, unknown = [], []
    for _ in range(_GUESSES):
        known.append(_one_login(server, _EMAIL, "wrong"))
        unknown.append(_one_login(server, "nobody@example.com", "wrong"))
    return statistics.median(known), statistics.median(unknown)


def _one_login(server: Server, email: str, password: str) -> float:
    """How long a login takes, in milliseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        body = json.dumps({"username": email, "password": password})
        started = time.perf_counter()
        connection.request("POST", "/auth/login", body, {"Content-Type": "application/json"})
        connection.getresponse().read()
        return (time.perf_counter() - started) * 1000
    finally:
        connection.close()
