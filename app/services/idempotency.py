"""A request with an Idempotency-Key is carried out once: sent again within a day, it gets the same answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from app.core.errors import IdempotencyKeyInUse, IdempotencyKeyInvalid, IdempotencyKeyReused
from app.core.principal import Principal
from app.db.repositories.idempotency import IdempotencyRepository, KnownRequest
from app.services.runtime import Runtime

_LIFETIME: Final = timedelta(hours=24)
_LONGEST_KEY: Final = 255


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered."""

    status: int
    body: Any


@dataclass(slots=True)
class Attempt:
    """A request under way; `known` is the answer to an earlier one with this key, for the same body only."""

    _known: KnownRequest | None
    fingerprint: str | None = None
    answer: Answer | None = None

    def earlier(self, fingerprint: str) -> Answer | None:
        """The answer that this request got before, or None when it is to be carried out.

        Raises IdempotencyKeyReused for another body.
        """
        self.fingerprint = fingerprint
        if self._known is None:
            return None
        if self._known.fingerprint != fingerprint or self._known.status is None:
            raise IdempotencyKeyReused
        return Answer(self._known.status, self._known.body)


@asynccontextmanager
async def once(
    runtime: Runtime, principal: Principal, key: str | None, *, route: str, longest_seconds: float
) -> AsyncIterator[Attempt]:
    """Carry out the block under this key; what it sets as `answer` is what the same request gets from now on.

    Without an answer after `longest_seconds` its process must have died, and the key is free again. A failed request leaves nothing, so it may be sent again. Raises IdempotencyKeyInvalid, IdempotencyKeyInUse while the
    same key is being answered, and IdempotencyKeyReused where it was used for another route.
    """
    if key is None:
        yield Attempt(None)
        return
    if not (1 <= len(key) <= _LONGEST_KEY and key.isprintable()):
        raise IdempotencyKeyInvalid
    async with runtime.database.unit_of_work(principal) as session:
        known = await IdempotencyRepository(session, principal).begin(
            key, route=route, patience=timedelta(seconds=longest_seconds), lifetime=_LIFETIME
        )
    if known is not None:
        if known.route != route:
            raise IdempotencyKeyReused
        if known.status is None:
            raise IdempotencyKeyInUse(retry_after_seconds=1)
        yield Attempt(known)
        return
    attempt = Attempt(None)
    try:
        yield attempt
    finally:
        await asyncio.shield(_settle(runtime, principal, key, attempt))  # also for a client that has gone


async def _settle(runtime: Runtime, principal: Principal, key: str, attempt: Attempt) -> None:
    answer = attempt.answer
    async with runtime.database.unit_of_work(principal) as session:
        requests = IdempotencyRepository(session, principal)
        if answer is None or attempt.fingerprint is None:
            await requests.forget(key)
        else:
            await requests.answer(
                key, fingerprint=attempt.fingerprint, status=answer.status, body=answer.body
            )
