"""What is to be done for the rebuilds that are under way, by whoever has the time: one document, the end, an organization's."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from app.core.errors import AppError, InvalidRebuild
from app.core.principal import SYSTEM
from app.db.models import IndexRebuild, RebuildState
from app.db.repositories.index_state import IndexStateRepository
from app.db.repositories.rebuilds import BuildClaim, RebuildRepository, build_of
from app.services import rebuilding
from app.services.runtime import Runtime

log = structlog.get_logger(__name__)

_ORGANIZATIONS_AT_ONCE: Final = 20
_LONGEST_HELP_SECONDS: Final = 20.0
_HELP_OF_LEASE: Final = 0.3
"""Nobody extends the claim of one who helps."""


async def build_claimed(target: Runtime, rebuild: IndexRebuild, claim: BuildClaim) -> None:
    """Build one document, or say why not."""
    if claim.attempts > target.settings.job_max_crashes:
        error = InvalidRebuild("Whoever builds this document dies of it again and again.")
        await rebuilding.failed(target, rebuild, claim, error)
        return
    try:
        built = await rebuilding.build(target, rebuild, claim)
    except AppError as reason:
        await rebuilding.failed(target, rebuild, claim, reason)
        return
    if not built:
        await give_back(target, claim)


async def help_once(runtime: Runtime) -> None:
    """Build one document for the rebuild of the installation, where it can be done soon. What fails is left to the workers."""
    lease = timedelta(seconds=runtime.settings.job_lease_seconds)
    within_seconds = min(_LONGEST_HELP_SECONDS, _HELP_OF_LEASE * runtime.settings.job_lease_seconds)
    claim: BuildClaim | None = None
    try:
        async with asyncio.timeout(within_seconds):
            async with runtime.database.unit_of_work(SYSTEM) as session:
                rebuild = await RebuildRepository(session).under_way()
            if rebuild is None or rebuild.state != RebuildState.RUNNING:
                return
            target = await rebuilding.of_target(runtime, rebuild)
            async with runtime.database.unit_of_work(SYSTEM) as session:
                claim = await RebuildRepository(session).claim(
                    rebuild.number, claimed_by=f"help:{secrets.token_hex(8)}", lease=lease
                )
            if claim is not None:
                await build_claimed(target, rebuild, claim)
    except (AppError, TimeoutError) as error:
        log.info("rebuild_not_helped", reason=type(error).__name__)
        if claim is not None:
            with contextlib.suppress(AppError):  # without a database the lease runs out
                await give_back(runtime, claim)
    except asyncio.CancelledError:
        if claim is not None:
            with contextlib.suppress(AppError):
                await asyncio.shield(give_back(runtime, claim))
        raise


async def give_back(runtime: Runtime, claim: BuildClaim) -> None:
    """Let another worker have the document, as if this one had not started."""
    async with runtime.database.unit_of_work(SYSTEM) as session:
        await RebuildRepository(session).drop(claim)


async def broken(runtime: Runtime, rebuild: IndexRebuild, claim: BuildClaim) -> None:
    """Stop the rebuild for a reason that is in the log."""
    error = InvalidRebuild("Something went wrong on the server; it has been logged.")
    await rebuilding.failed(runtime, rebuild, claim, error)


async def clean_up(runtime: Runtime, rebuild: IndexRebuild, *, going_on: Callable[[], bool]) -> bool:
    """Remove what is not served any more, or not to be; False when it is too early, or asked to stop before the end."""
    cancelled = rebuild.state == RebuildState.CANCELLING
    async with runtime.database.unit_of_work(SYSTEM) as session:
        repository, served = RebuildRepository(session), await IndexStateRepository(session).served()
        grace = timedelta(seconds=runtime.settings.index_keep_seconds)
        if served is None or not (cancelled or await repository.is_over(rebuild, grace)):
            return False
    gone = build_of(rebuild).name if cancelled else rebuild.previous_build
    if gone is None or gone == served.name:
        return False
    if not await rebuilding.clean(runtime, kept=served.name, gone=gone, going_on=going_on):
        return False
    async with runtime.database.unit_of_work(SYSTEM) as session:
        repository = RebuildRepository(session)
        await repository.forget_claims()
        end = RebuildState.CANCELLED if cancelled else RebuildState.COMPLETED
        return await repository.end(rebuild.id, [RebuildState(rebuild.state)], end)


async def go_on_with_organizations(runtime: Runtime) -> int:
    """Have documents of organizations queued, and see which of their rebuilds are done; returns how many are not."""
    left = 0
    async with runtime.database.unit_of_work(SYSTEM) as session:
        repository = RebuildRepository(session)
        for rebuild in await repository.of_organizations(limit=_ORGANIZATIONS_AT_ONCE):
            if rebuild.state == RebuildState.CANCELLING:
                await repository.withdraw(rebuild)
                await repository.end(rebuild.id, [RebuildState.CANCELLING], RebuildState.CANCELLED)
            elif rebuild.state != RebuildState.RUNNING:
                continue
            elif rebuild.began_at is None:
                await repository.chunk_anew(rebuild)
                left += 1
            elif await repository.left(rebuild):
                left += 1
            else:
                await repository.end(rebuild.id, [RebuildState.RUNNING], RebuildState.COMPLETED)
    return left
