"""The worker: claim a document, have it processed, say what became of it. Any number of processes do this side by side.

A claim is kept by a heartbeat; when it is lost (the document was deleted, cancelled or replaced, or this process was asleep
for too long) the work is dropped at once. Asked to stop, a worker finishes what it has begun within the time it is given
and hands the rest back.
"""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import structlog

from app import rebuilder
from app.core import waiting
from app.core.counters import counters
from app.core.errors import AppError, Category, Superseded
from app.core.principal import SYSTEM
from app.db import queue
from app.db.models import Stage
from app.db.queue import Claim
from app.db.repositories import evaluations
from app.db.repositories.versions import VersionRepository
from app.rag.parsing.model import ParseFailed
from app.services import evaluation_work, files, processing
from app.services.processing import BecameTheSame, Failure
from app.services.runtime import Runtime
from app.services.web_requests import FetchFailed

log = structlog.get_logger(__name__)

_LONGEST_POLL_SECONDS: Final = 5.0
_REPORT_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 1.0
_UPKEEP_SECONDS: Final = 20.0
_SIGN_SECONDS: Final = 10.0

_CRASHED: Final = Failure(
    "crashed_repeatedly",
    "Whoever processed this document died of it again and again, so it is left alone. Send it in another format.",
    retryable=False,
)
_BROKEN: Final = Failure(
    "internal_error", "Something went wrong on the server; it has been logged.", retryable=True
)


@dataclass(slots=True)
class _Work:
    """A claim and how far its work is."""

    claim: Claim
    stage: Stage | None = None
    progress: float = 0.0
    shown: tuple[Stage | None, float] = (None, 0.0)
    stage_began: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    def report(self, stage: Stage, progress: float) -> None:
        if stage is not self.stage:
            self.end_stage()
            self.stage = stage
        self.progress = progress

    def end_stage(self) -> None:
        now = time.monotonic()
        if self.stage is not None:
            elapsed = now - self.stage_began
            self.seconds[self.stage.value] = round(elapsed, 3)
            counters.add("ingestion_stage_seconds", elapsed, stage=self.stage.value)
        self.stage_began = now


class Worker:
    """Works on up to `concurrency` documents at a time."""

    def __init__(self, runtime: Runtime, *, concurrency: int) -> None:
        self._runtime = runtime
        self._concurrency = concurrency
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._lease = timedelta(seconds=runtime.settings.job_lease_seconds)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Claim nothing more; `run` returns when what is under way is done."""
        self._stopping.set()
        self._runtime.listener.notify(queue.JOBS)

    async def run(self) -> None:
        """Until `stop`, or for as long as it isn't cancelled: then what is under way is handed back."""
        beside: asyncio.Future[Any] = asyncio.gather(self._upkeep(), self._show_life(), self._evaluate())
        try:
            with self._runtime.listener.watching(queue.JOBS) as news:
                while not self._stopping.is_set():
                    news.clear()
                    if not await self._claim_one():
                        await self._wait(news)
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            beside.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(beside, *self._tasks, return_exceptions=True)
            with contextlib.suppress(AppError):  # without a database it is forgotten after a while
                async with self._runtime.database.unit_of_work(SYSTEM) as session:
                    await queue.sign_off(session, self._name)

    async def _claim_one(self) -> bool:
        """Start one job if there is room for one and one to start."""
        if len(self._tasks) >= self._concurrency:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            return True
        try:
            async with self._runtime.database.unit_of_work(SYSTEM) as session:
                claim = await queue.claim(
                    session, claimed_by=f"{self._name}:{secrets.token_hex(6)}", lease=self._lease
                )
        except AppError as error:  # the database is away
            log.warning("queue_unavailable", reason=error.code)
            await asyncio.sleep(_PAUSE_SECONDS)
            return False
        except Exception as error:  # the top of the loop: it must not end
            log.error("claim_failed", exc_info=error)
            await asyncio.sleep(_PAUSE_SECONDS)
            return False
        if claim is None:
            return False
        task = asyncio.create_task(self._work(claim), name=f"job {claim.document_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _wait(self, news: asyncio.Event) -> None:
        """Until somebody enqueues, a job here ends, or it is time to look for leases that have run out."""
        seconds = min(_LONGEST_POLL_SECONDS, self._lease.total_seconds() / 2)
        await waiting.happened(news, seconds)

    async def _work(self, claim: Claim) -> None:
        work = _Work(claim)
        started = time.monotonic()
        try:
            outcome = await self._processed(work)
        except asyncio.CancelledError:
            await asyncio.shield(self._give_back(claim))
            raise
        work.end_stage()
        counters.add("ingestion_documents", outcome=outcome)
        log.info(
            "document_processed",
            document_id=claim.document_id,
            organization_id=claim.organization_id,
            outcome=outcome,
            attempts=claim.attempts,
            seconds=round(time.monotonic() - started, 3),
            stages=work.seconds,
        )

    async def _processed(self, work: _Work) -> str:
        """What became of it: completed, failed, postponed or superseded."""
        claim = work.claim
        if claim.crashes >= self._runtime.settings.job_max_crashes:
            return await self._failed(claim, _CRASHED)
        try:
            chunks = await self._kept(work)
            counters.add("ingestion_chunks", chunks)
            return "completed"
        except Superseded:
            with contextlib.suppress(AppError):  # without a database it is found out again
                await processing.forget(self._runtime, claim)
            return "superseded"
        except (ParseFailed, FetchFailed, BecameTheSame, AppError) as error:
            if isinstance(error, AppError) and error.category is Category.UNAVAILABLE:
                log.warning("document_postponed", document_id=claim.document_id, reason=error.code)
            return await self._failed(claim, processing.failure_of(error))
        except Exception as error:  # the top of a worker: one document may fail, the others go on
            log.error("processing_failed", document_id=claim.document_id, exc_info=error)
            return await self._failed(claim, _BROKEN)

    async def _kept(self, work: _Work) -> int:
        """Process while a heartbeat keeps the claim. Raises Superseded when it is lost, and what processing raises."""
        processed = asyncio.create_task(processing.run(self._runtime, work.claim, work.report))
        heartbeat = asyncio.create_task(self._heartbeat(work))
        try:
            await asyncio.wait([processed, heartbeat], return_when=asyncio.FIRST_COMPLETED)
            if not processed.done():
                raise Superseded
            return processed.result()
        finally:
            for task in (processed, heartbeat):
                task.cancel()
            await asyncio.gather(processed, heartbeat, return_exceptions=True)

    async def _heartbeat(self, work: _Work) -> None:
        """Extend the claim and show the progress until the claim is lost."""
        extended = time.monotonic()
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            try:
                if time.monotonic() - extended >= self._lease.total_seconds() / 3:
                    async with self._runtime.database.unit_of_work(SYSTEM) as session:
                        if not await queue.extend(session, work.claim, lease=self._lease):
                            return
                    extended = time.monotonic()
                stage, progress = work.stage, work.progress
                unseen = stage is not None and work.shown != (stage, progress)
                if unseen and not await self._show(work, stage, progress):
                    return
            except AppError as error:  # the database is away: its fence decides in the end
                log.warning("heartbeat_missed", document_id=work.claim.document_id, reason=error.code)

    async def _show(self, work: _Work, stage: Stage | None, progress: float) -> bool:
        assert stage is not None
        principal = processing.principal_of(work.claim.organization_id)
        async with self._runtime.database.unit_of_work(principal) as session:
            mine = await VersionRepository(session, principal).show_progress(work.claim, stage, progress)
        work.shown = stage, progress
        return mine

    async def _failed(self, claim: Claim, failure: Failure) -> str:
        """Write the failure down, as soon as there is a database to write it to."""
        while True:
            try:
                for_good = await processing.settle_failure(self._runtime, claim, failure)
            except Superseded:
                return "superseded"
            except AppError as error:
                log.warning("failure_not_recorded", document_id=claim.document_id, reason=error.code)
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return "failed" if for_good else "postponed"

    async def _give_back(self, claim: Claim) -> None:
        with contextlib.suppress(AppError):  # without a database the lease runs out
            await processing.give_back(self._runtime, claim)

    async def _show_life(self) -> None:
        while True:
            try:
                async with self._runtime.database.unit_of_work(SYSTEM) as session:
                    await queue.show_sign_of_life(session, self._name, concurrency=self._concurrency)
            except AppError as error:
                log.debug("no_sign_of_life", reason=error.code)
            await asyncio.sleep(_SIGN_SECONDS)

    async def _upkeep(self) -> None:
        """Remove files that nobody has any more."""
        while True:
            try:
                await files.sweep(self._runtime)
            except AppError as error:
                log.debug("files_not_swept", reason=error.code)
            except Exception as error:  # the top of a background loop
                log.error("sweep_failed", exc_info=error)
            await asyncio.sleep(_UPKEEP_SECONDS)

    async def _evaluate(self) -> None:
        """Run evaluations, one after the other; what this is cancelled in goes to another worker."""
        with self._runtime.listener.watching(evaluations.CHANNEL) as news:
            while True:
                news.clear()
                try:
                    name = f"{self._name}:{secrets.token_hex(6)}"
                    if await evaluation_work.run_next(self._runtime, claimed_by=name):
                        continue
                except AppError as error:  # the database is away
                    log.debug("evaluations_unavailable", reason=error.code)
                except Exception as error:  # the top of a background loop
                    log.error("evaluations_failed", exc_info=error)
                await waiting.happened(news, _UPKEEP_SECONDS)


@asynccontextmanager
async def running(runtime: Runtime, *, concurrency: int, drain_seconds: float) -> AsyncIterator[Worker]:
    """A worker in the background for as long as the block lasts, which then has so long to finish what it has begun."""
    worker = Worker(runtime, concurrency=concurrency)
    task = asyncio.create_task(worker.run(), name="worker")
    try:
        async with rebuilder.running(runtime, concurrency=concurrency):
            yield worker
    finally:
        worker.stop()
        await asyncio.wait([task], timeout=drain_seconds)
        await waiting.cancelled(task)
