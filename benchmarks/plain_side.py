"""What the plain server needs to be compared with: an environment with its packages, and a database with the same chunks."""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import corpus, layouts, seeding
from benchmarks.processes import ROOT, Postgres, Server, python_server
from benchmarks.report import Failed, Skipped

_LOCK: Final = Path(__file__).with_name("plain.lock")
_DATABASE: Final = "plain"
_MEASURES: Final = (
    "maintenance_work_mem = '512MB'",
    "max_parallel_maintenance_workers = 0",  # as the product, for containers with little shared memory
)
_KNOWN: Final = """
SELECT (SELECT organization_id FROM chunks GROUP BY organization_id ORDER BY count(*) DESC LIMIT 1),
       (SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1) AS made_of
"""


@dataclass(frozen=True, slots=True)
class Place:
    """The interpreter that the plain server runs in, and the database that it asks."""

    python: Path
    url: str


def prepare(database: Postgres, product_url: str) -> Place:
    """The environment and the filled database, both made once and kept.

    Raises Skipped where the packages can't be had.
    """
    python = _environment()
    url = database.url(_DATABASE)
    organization_id, earlier = asyncio.run(_known(product_url))
    made_of = corpus.fingerprint(Path(__file__).with_name("plain_store.py"), _LOCK, also=organization_id)
    if earlier != made_of:
        seeding.make_database(database, _DATABASE)
        for measure in _MEASURES:
            asyncio.run(seeding.execute(url, f"ALTER DATABASE {_DATABASE} SET {measure}"))
        configuration = {
            "database_url": url,
            "product_url": product_url,
            "organization_id": organization_id,
            "dims": layouts.DIMS,
        }
        _run([str(python), "-m", "benchmarks.plain_store", json.dumps(configuration)])
        asyncio.run(seeding.execute(url, f"COMMENT ON DATABASE {_DATABASE} IS '{made_of}'"))
    return Place(python, url)


@contextmanager
def server(place: Place, provider: Server, folder: Path, *, lean: bool) -> Iterator[Server]:
    """The plain server as it is by default, or the leanest."""
    configuration = {
        "provider": provider.url,
        "database_url": place.url,
        "dims": layouts.DIMS,
        "lean": lean,
    }
    with python_server("benchmarks.plain", configuration, folder, python=place.python) as started:
        yield started


def bodies(questions: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Questions, each behind as many earlier messages as the product's sessions have."""
    asked = corpus.questions()
    answers = [passage.text for passage in corpus.passages()[:200]]
    chance = random.Random(3)
    for question in questions:
        history = [
            {"role": role, "content": chance.choice(texts)}
            for _ in range(seeding.EARLIER_MESSAGES // 2)
            for role, texts in (("user", asked), ("assistant", answers))
        ]
        yield {"message": question, "history": history}


def _environment() -> Path:
    """The interpreter of a virtual environment with what the lock says."""
    cache = seeding.cache("plain-environment", corpus.fingerprint(_LOCK, also=sys.version))
    python = cache.folder / "bin" / "python"
    if not cache.is_filled:
        try:
            _run([sys.executable, "-m", "venv", "--clear", str(cache.folder)])
            quiet = ("--quiet", "--disable-pip-version-check")
            locked = ("--no-deps", "--require-hashes", "-r", str(_LOCK))
            _run([str(python), "-m", "pip", "install", *quiet, *locked])
        except Failed as error:
            raise Skipped(f"the plain LlamaIndex server's packages can't be installed: {error}") from error
        cache.mark_filled()
    return python


def _run(command: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise Failed("\n".join(finished.stderr.splitlines()[-15:]))


async def _known(product_url: str) -> tuple[str, str | None]:
    """The organization that the questions go to, the largest, and what the plain database was made of, if there is one."""
    connection = await seeding.connect(product_url)
    try:
        row = await connection.fetchrow(_KNOWN, _DATABASE)
        return row["organization_id"], row["made_of"]
    finally:
        await connection.close()
