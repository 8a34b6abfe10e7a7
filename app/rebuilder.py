"""Builds the index anew where somebody has asked for it: in every process that processes documents, side by side with it.

Each takes documents that the rebuild lacks, as many at a time as it processes. Whoever finds none any more makes the switch, and
whoever comes first afterwards removes what was served before.
"""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from app.core import waiting
from app.core.errors import AppError, InvalidRebuild
from app.core.principal import SYSTEM
from app.db.models import IndexRebuild, RebuildState
from app.db.repositories.index_state import CHANNEL
from app.db.repositories.rebuilds import BuildClaim, RebuildRepository
from app.services import rebuild_work, rebuilding
from app.services.runtime import Runtime

log = structlog.get_logger(__name__)

_IDLE_SECONDS: Final = 10.0
_BUSY_SECONDS: Final = 0.5
_STEADY_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Ending:
    """How near a rebuild is to its end: what it lacked when that was looked at last, and how many switches came to nothing."""

    rebuild_id: str
    looks_at: float = 0.0
    lacking: frozenset[str] | None = None
    failures: int = 0
    pauses_until: float = 0.0

    @property
    def asked(self) -> rebuilding.Patience:
        return rebuilding.patience(self.failures)


class Rebuilder:
    """Builds up to `concurrency` documents at a time while a rebuild is under way, and sleeps otherwise."""

    def __init__(self, runtime: Runtime, *, concurrency: int) -> None:
        self._runtime = runtime
        self._concurrency = concurrency
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._lease = timedelta(seconds=runtime.settings.job_lease_seconds)
        self._tasks: dict[asyncio.Task[None], BuildClaim] = {}
        self._stopping = False
        self._looked_at = 0.0
        self._ending = _Ending("")

    async def run(self) -> None:
        """Until it is cancelled: what is under way then is handed back."""
        keeping = asyncio.create_task(self._keep_claims(), name="claims of a rebuild")
        try:
            with self._runtime.listener.watching(CHANNEL) as news:
                while True:
                    news.clear()
                    if not await self._round():
                        await waiting.happened(news, _IDLE_SECONDS)
        finally:
            self._stopping = True
            keeping.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(keeping, *self._tasks, return_exceptions=True)

    async def _round(self) -> bool:
        """Do something for whatever rebuild there is; False when there is none."""
        try:
            async with self._runtime.database.unit_of_work(SYSTEM) as session:
                rebuild = await RebuildRepository(session).under_way()
            left = 0
            if rebuild is None or time.monotonic() - self._looked_at > _BUSY_SECONDS:
                left = await rebuild_work.go_on_with_organizations(self._runtime)
                self._looked_at = time.monotonic()
            if rebuild is not None and await self._go_on(rebuild):
                return True
            if left:
                await asyncio.sleep(2 * _BUSY_SECONDS)
            return left > 0
        except AppError as error:  # the database is away, or a provider
            log.warning("rebuild_postponed", reason=error.code)
        except Exception as error:  # the top of the loop: it must not end
            log.error("rebuild_failed", exc_info=error)
        await asyncio.sleep(_BUSY_SECONDS)
        return False

    async def _go_on(self, rebuild: IndexRebuild) -> bool:
        """One step of the installation's rebuild; False when there is nothing to do but wait."""
        match rebuild.state:
            case RebuildState.RUNNING:
                await self._build(rebuild)
                return True
            case RebuildState.SWITCHED | RebuildState.CANCELLING:
                await rebuild_work.clean_up(self._runtime, rebuild, going_on=lambda: not self._stopping)
                await asyncio.sleep(_BUSY_SECONDS)
                return True
            case _:
                return False

    async def _build(self, rebuild: IndexRebuild) -> None:
        try:
            target = await rebuilding.of_target(self._runtime, rebuild)
        except InvalidRebuild as error:  # another worker may have what this one lacks
            log.error("rebuild_not_possible_here", reason=error.message)
            await asyncio.sleep(_IDLE_SECONDS)
            return
        if await self._keeps_up(target, rebuild):
            await self._switch(target, rebuild)
            return
        if len(self._tasks) < self._concurrency and await self._claim_one(target, rebuild):
            return
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_BUSY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            return
        if not await self._switch(target, rebuild):
            await asyncio.sleep(_BUSY_SECONDS)

    async def _keeps_up(self, target: Runtime, rebuild: IndexRebuild) -> bool:
        """Whether new documents come as fast as they are built: then there will never be a moment without any."""
        now = time.monotonic()
        if self._ending.rebuild_id != rebuild.id:
            self._ending = _Ending(rebuild.id)
        ending = self._ending
        if now < ending.looks_at:
            return False
        ending.looks_at = now + _STEADY_SECONDS
        before, ending.lacking = ending.lacking, await rebuilding.lacking(target, rebuild, ending.asked)
        # Whatever lacked before has been built since, and still something lacks: others, which take no longer.
        return before is not None and ending.lacking is not None and before.isdisjoint(ending.lacking)

    async def _switch(self, target: Runtime, rebuild: IndexRebuild) -> bool:
        """Switch, where little is left to build; False when it is not the moment."""
        ending = self._ending
        if time.monotonic() < ending.pauses_until:
            return False
        if await rebuilding.lacking(target, rebuild, ending.asked) is None:
            return False
        if not await rebuilding.prepare_indexes(target):
            return False
        began = time.monotonic()
        if await rebuilding.switch(target, rebuild, ending.asked):
            return True
        # Those who store documents have as long for themselves as they were held up.
        ending.pauses_until = 2 * time.monotonic() - began
        ending.failures += 1
        return False

    async def _claim_one(self, target: Runtime, rebuild: IndexRebuild) -> bool:
        async with self._runtime.database.unit_of_work(SYSTEM) as session:
            claim = await RebuildRepository(session).claim(
                rebuild.number, claimed_by=f"{self._name}:{secrets.token_hex(6)}", lease=self._lease
            )
        if claim is None:
            return False
        task = asyncio.create_task(self._work(target, rebuild, claim), name=f"rebuild {claim.document_id}")
        self._tasks[task] = claim
        task.add_done_callback(self._tasks.pop)
        return True

    async def _work(self, target: Runtime, rebuild: IndexRebuild, claim: BuildClaim) -> None:
        try:
            await rebuild_work.build_claimed(target, rebuild, claim)
        except asyncio.CancelledError:
            with contextlib.suppress(AppError):  # without a database the lease runs out
                await asyncio.shield(rebuild_work.give_back(target, claim))
            raise
        except Exception as error:  # one document may fail, the others go on
            log.error("rebuild_of_document_failed", document_id=claim.document_id, exc_info=error)
            with contextlib.suppress(AppError):
                await rebuild_work.broken(target, rebuild, claim)

    async def _keep_claims(self) -> None:
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            claimed = [claim.claimed_by for claim in self._tasks.values()]
            if not claimed:
                continue
            try:
                async with self._runtime.database.unit_of_work(SYSTEM) as session:
                    await RebuildRepository(session).extend(claimed, lease=self._lease)
            except AppError as error:  # the database is away: the fence decides in the end
                log.warning("rebuild_claims_not_kept", reason=error.code)


@asynccontextmanager
async def running(runtime: Runtime, *, concurrency: int) -> AsyncIterator[None]:
    """A rebuilder in the background for as long as the block lasts."""
    task = asyncio.create_task(Rebuilder(runtime, concurrency=concurrency).run(), name="rebuilder")
    try:
        yield
    finally:
        await waiting.cancelled(task)
