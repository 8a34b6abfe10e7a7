"""Files over the API: a very large one in constant memory, text in bulk, two workers against one, rows into the index."""

import asyncio
import http.client
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from app.core import ids
from app.core.principal import ALL_SCOPES, SYSTEM, Principal, PrincipalKind, Role
from app.core.retrieval import WeighedTerms
from app.db.engine import create_database
from app.db.repositories.documents import DocumentRepository
from app.db.repositories.identity import IdentityRepository
from app.db.repositories.new_chunks import NewChunk
from app.db.repositories.places import PlaceRepository
from benchmarks import corpus
from benchmarks.load import HealthProbe
from benchmarks.processes import (
    Postgres,
    Server,
    control,
    embedding_provider,
    postgres,
    service,
    worker,
    workspace,
)
from benchmarks.report import Details, Failed, Figure, Report

_GIBIBYTE: Final = 2**30
_PIECE_BYTES: Final = 2**18
_DIMENSIONS: Final = 384
_BATCH_LATENCY_SECONDS: Final = 0.03
_END_SECONDS: Final = 600.0
_ASKING_SECONDS: Final = 0.1
"""Between two questions whether all is done: more of them would be a tenth of the server's work."""
_BOUNDARY: Final = "benchmark-boundary"


def run(*, quick: bool) -> Report:
    report = Report("documents")
    with (
        workspace() as folder,
        embedding_provider(folder, dims=_DIMENSIONS) as provider,
        postgres(folder / "data") as database,
    ):
        settings = {
            "DB_URL": database.product_url,
            "OPENAI_API_KEY": "sk-benchmark",
            "OPENAI_BASE_URL": f"{provider.url}/v1",
            "EMBEDDING_MODEL": "of-the-simulator",
            "MAX_UPLOAD_BYTES": str(_GIBIBYTE),
            "DATA_DIR": str(folder / "files"),
        }
        with service(settings, folder) as server:
            key = server.first_key()
            _warm_up(server, key)
            report.figures.extend(_large_upload(server, key, size_bytes=_GIBIBYTE // (8 if quick else 1)))
            report.figures.extend(_bulk_text(server, database, key, megabytes=4 if quick else 20))
        report.figures.append(_insert(database, rows=2_000 if quick else 10_000))
        control(provider, emb_latency=_BATCH_LATENCY_SECONDS)
        report.figures.append(_workers(report, settings, folder, key, files=60 if quick else 200))
    return report


def _warm_up(server: Server, key: str) -> None:
    _send(server, key, [("warm.txt", b"A first file, so that everything is loaded.")])
    _wait_for_all(server, key)


def _large_upload(server: Server, key: str, *, size_bytes: int) -> Iterator[Figure]:
    """A file of random letters, which is refused for its text or not; what counts is how it arrives."""
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    peak = before
    stopped = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stopped.wait(0.02):
            peak = max(peak, process.memory_info().rss)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    started = time.perf_counter()
    with HealthProbe(server) as probe:
        status = _stream(server, key, size_bytes)
    seconds = time.perf_counter() - started
    stopped.set()
    watching.join()
    if status != 202:
        raise Failed(f"the upload was answered with {status} (see {server.log})")
    yield Figure("upload", size_bytes / 2**20 / seconds, "MiB/s")
    yield Figure("memory that it adds", (peak - before) / 2**20, "MiB", at_most=64)
    yield Figure("/health meanwhile, p99", probe.percentile_ms(99), "ms", at_most=100)
    for document in _documents(server, key):
        _request(server, key, "DELETE", f"/documents/{document['id']}")


def _stream(server: Server, key: str, size_bytes: int) -> int:
    head, tail = _frame("large.pdf")
    piece = b"%PDF-1.7\n" + secrets.token_hex(_PIECE_BYTES // 2).encode()[: _PIECE_BYTES - 9]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    connection.putrequest("POST", "/documents")
    connection.putheader("X-API-Key", key)
    connection.putheader("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}")
    connection.putheader("Content-Length", str(len(head) + size_bytes + len(tail)))
    connection.endheaders()
    connection.send(head)
    sent = 0
    while sent < size_bytes:
        block = piece[: size_bytes - sent]
        connection.send(block)
        sent += len(block)
    connection.send(tail)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def _bulk_text(server: Server, database: Postgres, key: str, *, megabytes: int) -> Iterator[Figure]:
    """Whole megabytes of prose, from the first byte sent until all of it is searchable."""
    files = _texts(megabytes, size_bytes=1_000_000, seed=5)
    cpu = server.all_cpu_seconds(), database.cpu_seconds()
    started = time.perf_counter()
    _follow(server, key, _send(server, key, files))
    seconds = time.perf_counter() - started
    yield Figure("text, end to end", megabytes / seconds, "MB/s", at_least=4)
    yield Figure("server CPU for it", (server.all_cpu_seconds() - cpu[0]) / megabytes, "s/MB")
    yield Figure("PostgreSQL CPU for it", (database.cpu_seconds() - cpu[1]) / megabytes, "s/MB")


def _insert(database: Postgres, *, rows: int) -> Figure:
    return Figure("chunks inserted", asyncio.run(_insert_rows(database, rows)), "rows/s", at_least=3000)


async def _insert_rows(database: Postgres, rows: int) -> float:
    opened = create_database(database.product_url, pool_size=2, overflow=2, connect_timeout_seconds=5)
    try:
        async with opened.unit_of_work(SYSTEM) as session:
            organization_id = await IdentityRepository(session).add_organization("Rows")
        principal = Principal(PrincipalKind.OPERATOR, "op", organization_id, Role.ADMIN, ALL_SCOPES)
        vectors = np.random.default_rng(1).standard_normal((rows, _DIMENSIONS)).astype(np.float32)
        text = corpus.long_texts(1, size_bytes=900, seed=1)[0]
        chunks = [
            NewChunk(
                n,
                1,
                0,
                len(text),
                text,
                "en",
                WeighedTerms.of({n * 100 % 50_000 + t + 1: 1.0 for t in range(80)}),
                vectors[n],
            )
            for n in range(rows)
        ]
        async with opened.unit_of_work(principal) as session:
            documents = DocumentRepository(session, principal)
            document_id = ids.new(ids.Prefix.DOCUMENT)
            values = {
                "id": document_id,
                "collection_id": await PlaceRepository(session, principal).default_id(),
                "title": "T",
                "content_type": "text/plain",
                "size_bytes": 1,
                "sha256": document_id,
            }
            await documents.add_completed(values, [text])
            started = time.perf_counter()
            for start in range(0, rows, 1000):
                await documents.add_chunks(
                    document_id, chunks[start : start + 1000], embedding_model="benchmark"
                )
            return rows / (time.perf_counter() - started)
    finally:
        await opened.close()


def _workers(report: Report, settings: Mapping[str, str], folder: Path, key: str, *, files: int) -> Figure:
    """The same backlog, worked off by one worker and by two, each one document at a time."""
    table = Details(
        f"{files} files of 20 kB, {_BATCH_LATENCY_SECONDS * 1000:.0f} ms a batch", ("workers", "files/s")
    )
    rates = []
    alone = {**settings, "WORKER_CONCURRENCY": "0"}
    with service(alone, folder, "api") as server:
        for number in (1, 2):
            _send(
                server,
                key,
                [(name, text) for name, text in _texts(files, size_bytes=20_000, seed=50 + number)],
            )
            with ExitStack() as stack:
                for _ in range(number):
                    stack.enter_context(worker({**settings, "WORKER_CONCURRENCY": "1"}, folder))
                left = _unfinished(server, key)
                started = time.perf_counter()
                _wait_for_all(server, key)
                rates.append(left / (time.perf_counter() - started))
            table.rows.append((number, rates[-1]))
    report.details.append(table)
    return Figure("two workers against one", rates[1] / rates[0], "times", at_least=1.7)


def _texts(count: int, *, size_bytes: int, seed: int) -> list[tuple[str, bytes]]:
    """Files of prose, each different from all others."""
    base = corpus.long_texts(8, size_bytes=min(size_bytes, 200_000), seed=seed)
    return [
        (f"{seed}-{n}.txt", (f"File {seed} {n}.\n\n" + "\n\n".join(base * 8))[:size_bytes].encode())
        for n in range(count)
    ]


def _frame(name: str) -> tuple[bytes, bytes]:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode(), f"\r\n--{_BOUNDARY}--\r\n".encode()


def _send(server: Server, key: str, files: list[tuple[str, bytes]]) -> list[str]:
    """The files one after the other; returns the ids of their documents."""
    ids_of_documents = []
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    headers = {"X-API-Key": key, "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    for name, content in files:
        head, tail = _frame(name)
        connection.request("POST", "/documents", head + content + tail, headers)
        response = connection.getresponse()
        body = response.read()
        if response.status not in (200, 202):
            raise Failed(f"an upload was answered with {response.status}: {body[:300]!r}")
        ids_of_documents += [uploaded["document_id"] for uploaded in json.loads(body)]
    connection.close()
    return ids_of_documents


def _follow(server: Server, key: str, documents: list[str]) -> None:
    """Wait until each is completed by listening to what becomes of it: to ask again and again was 3 % of the server's work."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_END_SECONDS)
    for document_id in documents:
        connection.request("GET", f"/documents/{document_id}/events", headers={"X-API-Key": key})
        events = connection.getresponse().read().decode().split("event: ")
        if not events[-1].startswith("completed"):
            raise Failed(f"a document was not completed (see {server.log}): {events[-1][:300]}")
    connection.close()


def _request(server: Server, key: str, method: str, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(method, path, headers={"X-API-Key": key})
    body = connection.getresponse().read()
    connection.close()
    return body


def _documents(server: Server, key: str, query: str = "", *, limit: int = 200) -> list[dict[str, str]]:
    path = f"/documents?limit={limit}{query}"
    found: list[dict[str, str]] = json.loads(_request(server, key, "GET", path))
    return found


def _unfinished(server: Server, key: str) -> int:
    return sum(len(_documents(server, key, f"&status={status}")) for status in ("uploaded", "processing"))


def _wait_for_all(server: Server, key: str) -> None:
    deadline = time.monotonic() + _END_SECONDS
    while any(_documents(server, key, f"&status={status}", limit=1) for status in ("uploaded", "processing")):
        if time.monotonic() > deadline:
            raise Failed(f"documents are still being processed (see {server.log})")
        time.sleep(_ASKING_SECONDS)
    if failed := _documents(server, key, "&status=failed"):
        raise Failed(f"a document failed: {failed[0]}")
