"""Twenty people who log in at once: how long everybody else waits, and whether the time tells who has an account."""

import asyncio
import http.client
import json
import secrets
import statistics
import time
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

from app.core import security
from app.core.principal import SYSTEM, Role
from app.db.engine import create_database
from app.db.repositories.identity import IdentityRepository
from benchmarks.load import HealthProbe, Load, drive
from benchmarks.processes import Server, postgres, service, workspace
from benchmarks.report import Details, Figure, Report, percentile

_CONCURRENCY: Final = 20
_EMAILS: Final = tuple(f"person{number}@example.com" for number in range(_CONCURRENCY))
_GUESSED: Final = tuple(f"guessed{number}@example.com" for number in range(10))
"""Who never logged in from here: guesses from where somebody did are counted otherwise."""
_GUESSES: Final = 6
"""At each account; of ten on they would not be looked at."""


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
    with workspace() as folder, postgres(folder / "data") as database:
        url = database.url("ibid")
        with service({"DB_URL": url, "LOG_LEVEL": "warning"}, folder) as server:
            asyncio.run(_add_people(url, password))
            _measure(report, plan, server, password)
    return report


async def _add_people(url: str, password: str) -> None:
    """Each of them an account of their own: guesses at one are counted before they are looked at, also right ones."""
    database = create_database(url, pool_size=1, overflow=0, connect_timeout_seconds=10)
    password_hash = security.hash_password(password)
    async with database.unit_of_work(SYSTEM) as session:
        organization_id = await IdentityRepository(session).add_organization("Of people who log in")
        for email in (*_EMAILS, *_GUESSED):
            await IdentityRepository(session).add_user(
                organization_id=organization_id, email=email, password_hash=password_hash, role=Role.USER
            )
    await database.close()


def _measure(report: Report, plan: Plan, server: Server, password: str) -> None:
    _one_login(server, _EMAILS[0], password)
    with HealthProbe(server) as quiet:
        time.sleep(plan.quiet_seconds)
    bodies = [{"username": email, "password": password} for email in _EMAILS]
    cpu = server.cpu_seconds()
    with HealthProbe(server) as busy:
        outcome = drive(Load(server, "/auth/login", list(islice(cycle(bodies), plan.logins)), _CONCURRENCY))
    cpu = server.cpu_seconds() - cpu
    known, unknown = _wrong_guesses(server)
    table = Details("Answers of GET /health (ms)", ("", "p50", "p95", "p99", "longest"))
    for name, probe in (("nobody logs in", quiet), (f"{_CONCURRENCY} at once log in", busy)):
        table.rows.append((name, *(probe.percentile_ms(share) for share in (50, 95, 99, 100))))
    report.details.append(table)
    lag = busy.percentile_ms(99)
    report.figures.extend(
        [
            Figure(f"event-loop lag p99, {_CONCURRENCY} logins at once", lag, "ms", at_most=50),
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


def _wrong_guesses(server: Server) -> tuple[float, float]:
    """The median time of a wrong guess at an account that exists and at one that does not, asked by turns."""
    known: list[float] = []
    unknown: list[float] = []
    for turn in range(_GUESSES):
        for email in _GUESSED:
            pair = ((known, email), (unknown, f"no.{email}"))
            for times, address in pair if turn % 2 else reversed(pair):
                times.append(_one_login(server, address, "wrong"))
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
