"""Answers that are followed or stopped from another process than the one that gives them.

Whoever follows asks for it by a notification, again and again; while anybody does, the process that gives the answer
writes what there is of it into its row four times a second. So an answer that nobody follows from elsewhere costs nothing
more than its end. What is read from the row is numbered as in `live`.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import structlog

from app.core import waiting
from app.core.errors import AnswerBrokenOff, AnswerNotFound, AppError, ServiceStopping
from app.core.principal import Principal
from app.db.engine import AnyTransaction
from app.db.models import MessageStatus
from app.db.repositories.turns import StoredAnswer, TurnRepository, notify
from app.services.answers import (
    Answer,
    AnswerDelta,
    AnswerDone,
    DocumentProgress,
    Source,
    SourcesFound,
    TurnFailed,
    TurnStarted,
    Usage,
)
from app.services.course import STOPPED, stored
from app.services.live import SOURCES, STARTED, Following, LiveTurn, Numbered, end_number
from app.services.runtime import Runtime
from app.services.session_files import Watch

log = structlog.get_logger(__name__)

REQUESTS: Final = "ibid_turns"
"""What is asked of the process that gives an answer: `follow msg_…` or `stop msg_…`."""
ANSWERS: Final = "ibid_answers"
"""Its reply, the id of the answer: there is more of it, or at least somebody who gives it."""

_FOLLOW: Final = "follow"
_STOP: Final = "stop"
_WRITE_SECONDS: Final = 0.25
_SIGN_SECONDS: Final = 2.0
_ASK_SECONDS: Final = 3.0
_FOLLOWED_SECONDS: Final = 10.0
_LONGEST_WAIT_SECONDS: Final = 1.0
_DEAD_SECONDS: Final = 20.0
"""After so long without a sign of it, the process that gave an answer is gone."""
_QUIET_SECONDS: Final = 15.0
_ENDED: Final = (MessageStatus.COMPLETE, MessageStatus.STOPPED)


@asynccontextmanager
async def running(runtime: Runtime) -> AsyncIterator[None]:
    """Hear what other processes ask of the turns of this one, for as long as the block lasts; then they end."""
    writers: dict[str, asyncio.Task[None]] = {}

    def write(turn: LiveTurn) -> None:
        if turn.message_id not in writers:
            task = writers[turn.message_id] = asyncio.create_task(_write(runtime, turn), name="relay")
            task.add_done_callback(lambda _: writers.pop(turn.message_id, None))

    def heard(payload: str) -> None:
        what, _, message_id = payload.partition(" ")
        turn = runtime.turns.find(message_id)
        if turn is None or not turn.is_started:
            return
        if what == _STOP:
            turn.stop()
        turn.followed_elsewhere_until = asyncio.get_running_loop().time() + _FOLLOWED_SECONDS
        write(turn)

    runtime.turns.left_alone = write  # what there is of it shall outlive this process
    try:
        with runtime.listener.hearing(REQUESTS, heard):
            yield
    finally:
        runtime.turns.left_alone = None
        await runtime.turns.aclose(ServiceStopping(retry_after_seconds=5))
        if writers:
            await asyncio.wait(list(writers.values()))


async def _write(runtime: Runtime, turn: LiveTurn) -> None:
    """Write what there is of an answer into its row, until nobody asks for it any more or it has ended."""
    loop = asyncio.get_running_loop()
    written, sources_written, told_at = -1, False, 0.0
    try:
        while True:
            is_over, pieces = turn.is_over, len(turn.pieces)
            if is_over or pieces != written or loop.time() - told_at > _SIGN_SECONDS:
                async with runtime.database.direct(turn.principal) as session:
                    if pieces != written and not is_over:
                        sources = None
                        if turn.sources is not None and not sources_written:
                            sources, sources_written = (
                                [stored(source) for source in turn.sources.sources],
                                True,
                            )
                        turns = TurnRepository(session, turn.principal)
                        await turns.write_part(turn.message_id, turn.text, sources)
                        written = pieces
                    await notify(session, ANSWERS, turn.message_id)
                told_at = loop.time()
            if is_over or loop.time() > turn.followed_elsewhere_until:
                return
            await asyncio.sleep(_WRITE_SECONDS)
    except AppError as error:  # the database is away; whoever follows asks again
        log.debug("relay_postponed", reason=error.code)


async def stored_answer(runtime: Runtime, principal: Principal, message_id: str) -> StoredAnswer:
    """An answer as far as it is stored. Raises AnswerNotFound for one of somebody else's session too."""
    async with runtime.database.direct(principal) as session:
        stored = await TurnRepository(session, principal).find_answer(message_id)
    if stored is None:
        raise AnswerNotFound
    return stored


async def follow(runtime: Runtime, principal: Principal, message_id: str, *, after: int) -> Following:
    """What comes after the event of this number, as it comes to be stored. Raises AnswerNotFound."""
    sent, quiet_since = after, time.monotonic()
    files = _Files(runtime, principal)
    async with aclosing(_states(runtime, principal, message_id, asking=_FOLLOW)) as states:
        async for stored in states:
            before = sent
            if sent < STARTED:
                sent = STARTED
                yield Numbered(sent, TurnStarted(stored.session_id, message_id))
            is_over = stored.status != MessageStatus.STREAMING
            for progress in [] if is_over else await files.news(stored.files_id):
                yield Numbered(sent, progress)
            has_text = is_over or bool(stored.content)
            if sent < SOURCES and (stored.sources or has_text):
                sent = SOURCES
                yield Numbered(sent, SourcesFound(tuple(map(_as_found, stored.sources))))
            if new := stored.content[sent - SOURCES :] if sent >= SOURCES else "":
                sent += len(new)
                yield Numbered(sent, AnswerDelta(new))
            if is_over:
                if sent != (end := end_number(len(stored.content))):
                    yield Numbered(end, _ending(message_id, stored))
                return
            if sent != before:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since >= _QUIET_SECONDS:
                quiet_since = time.monotonic()
                yield None


async def stopped_answer(runtime: Runtime, principal: Principal, message_id: str) -> Answer:
    """The answer once it has ended, which whoever gives it is asked for. Raises AnswerNotFound."""
    async with aclosing(_states(runtime, principal, message_id, asking=_STOP)) as states:
        async for stored in states:
            if stored.status != MessageStatus.STREAMING:
                return answer_of(message_id, stored)
    raise AssertionError("the states of an answer end with its end")


async def request_stop(session: AnyTransaction, message_id: str) -> None:
    """Ask whoever gives the answer to end it, once this transaction is committed."""
    await notify(session, REQUESTS, f"{_STOP} {message_id}")


async def _states(
    runtime: Runtime, principal: Principal, message_id: str, *, asking: str
) -> AsyncGenerator[StoredAnswer, None]:
    """The answer now and whenever there may be more of it, until it has ended. Raises AnswerNotFound."""
    with runtime.listener.watching(ANSWERS, message_id) as changed:
        asked_at, sign_at, length = 0.0, time.monotonic(), -1
        while True:
            changed.clear()
            stored = await stored_answer(runtime, principal, message_id)
            is_over = stored.status != MessageStatus.STREAMING
            yield stored
            if is_over:
                return
            now = time.monotonic()
            if len(stored.content) != length:
                length, sign_at = len(stored.content), now
            if now - sign_at > _DEAD_SECONDS:
                await _bury(runtime, principal, message_id, asking)
                continue
            if now - asked_at > _ASK_SECONDS:
                asked_at = now
                async with runtime.database.direct(principal) as session:
                    await notify(session, REQUESTS, f"{asking} {message_id}")
            if await waiting.happened(changed, _LONGEST_WAIT_SECONDS):
                sign_at = time.monotonic()


async def _bury(runtime: Runtime, principal: Principal, message_id: str, asked: str) -> None:
    status = MessageStatus.STOPPED if asked == _STOP else MessageStatus.INTERRUPTED
    async with runtime.database.direct(principal) as session:
        await TurnRepository(session, principal).end_dead(
            message_id, status=status, finish_reason=STOPPED if asked == _STOP else "interrupted"
        )


def answer_of(message_id: str, stored: StoredAnswer) -> Answer:
    """The answer as it was when it ended."""
    usage = stored.usage
    cost = usage.get("cost_usd")
    return Answer(
        session_id=stored.session_id,
        message_id=message_id,
        answer=stored.content,
        sources=tuple(map(_source, stored.sources)),
        refused=stored.refused,
        usage=Usage(
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
            None if cost is None else Decimal(cost),
            bool(usage.get("estimated")),
        ),
        model=stored.model,
        finish_reason=stored.finish_reason,
        fallback=stored.fallback,
        degraded=stored.degraded,
        pending_documents=tuple(DocumentProgress(**document) for document in stored.pending_documents),
    )


def _ending(message_id: str, stored: StoredAnswer) -> AnswerDone | TurnFailed:
    if stored.status in _ENDED:
        return AnswerDone(answer_of(message_id, stored))
    if stored.error is not None:
        return TurnFailed(stored.error["code"], stored.error["message"], stored.error["details"])
    return TurnFailed.of(AnswerBrokenOff())


def _source(stored: dict[str, Any]) -> Source:
    return Source(**{name: stored[name] for name in Source.__slots__ if name in stored})


def _as_found(stored: dict[str, Any]) -> Source:
    """As it was told before there was an answer to cite it."""
    return replace(_source(stored), cited=False, supported=None)


class _Files:
    """The files of an answer's session, for as long as any of them is yet to be read."""

    def __init__(self, runtime: Runtime, principal: Principal) -> None:
        self._runtime = runtime
        self._principal = principal
        self._watch: Watch | None = None

    async def news(self, files_id: str | None) -> list[DocumentProgress]:
        """What has become of them since this was last asked. None is a session without files, at no cost."""
        if files_id is None:
            return []
        if self._watch is None:
            self._watch = Watch(self._runtime, self._principal, files_id)
        elif not self._watch.to_come:
            return []
        return await self._watch.news()
