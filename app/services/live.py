"""A turn that this process answers just now: it goes on by itself, and keeps what has come of it for who follows.

What a client sees is numbered, and the numbers depend on the answer alone: 1 is the session, 2 the sources, 2 + n the text
up to its n-th character, and the end one more than all of the text. So a client that was cut off says which
number it has seen and gets the rest, from this process or, out of the database, from any other one.

Nothing is queued for a slow reader: it finds more text when it comes.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import anyio

from app.core.errors import AppError
from app.core.principal import Principal
from app.services.answers import (
    Answer,
    AnswerDelta,
    AnswerDone,
    ChatEvent,
    DocumentProgress,
    SourcesFound,
    TurnFailed,
    TurnStarted,
)

STARTED: Final = 1
SOURCES: Final = 2
_QUIET_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event as a client gets it; every turn ends with exactly one AnswerDone or TurnFailed."""

    number: int
    event: ChatEvent | TurnFailed


Following = AsyncGenerator[Numbered | None, None]
"""The events of a turn; None whenever nothing came for a while."""


def end_number(text_length: int) -> int:
    return SOURCES + text_length + 1


class LiveTurn:
    """One turn while it is answered."""

    def __init__(self, principal: Principal, *, session_id: str, message_id: str) -> None:
        self.principal = principal
        self.session_id = session_id
        self.message_id = message_id
        self.asked = ""
        self.sources: SourcesFound | None = None
        self.notices: list[DocumentProgress] = []
        self.pieces: list[str] = []
        self.done: AnswerDone | None = None
        self.failure: Exception | None = None
        self.is_started = False
        self.is_ending = False
        """Whether it is told to end, or does so by itself: from here on nothing can stop it."""
        self.cause: AppError | None = None
        """Why it was told to end; None when somebody just said stop."""
        self.grace_seconds = 0.0
        """How long it goes on when nobody follows it any more."""
        self.followed_elsewhere_until = 0.0
        self.left_alone: Callable[[LiveTurn], None] | None = None
        """Called when the last one who followed has gone and might come back."""
        self._task: asyncio.Task[None] | None = None
        self._followers = 0
        self._wakes: set[asyncio.Event] = set()
        self._waiting_for_return: asyncio.TimerHandle | None = None

    @property
    def is_over(self) -> bool:
        return self.done is not None or self.failure is not None

    @property
    def is_left_alone(self) -> bool:
        """Whether nobody follows it just now, although somebody did."""
        return self._waiting_for_return is not None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def add(self, event: ChatEvent) -> None:
        match event:
            case DocumentProgress():
                self.notices.append(event)
            case AnswerDelta():
                self.pieces.append(event.delta)
            case SourcesFound():
                self.sources = event
            case TurnStarted():
                self.is_started = True
            case AnswerDone():
                self.done = event
        self._wake()

    def fail(self, error: Exception) -> None:
        self.failure = error
        self._wake()

    def stop(self) -> None:
        """Have it end with what there is: whoever follows gets the answer as far as it has come."""
        self._end(None)

    def interrupt(self, cause: AppError) -> bool:
        """Have it end with an error; whether it was not ending anyway."""
        return self._end(cause)

    def _end(self, cause: AppError | None) -> bool:
        if self.is_ending or self.is_over:
            return False
        self.is_ending, self.cause = True, cause
        if self.is_started and self._task is not None:
            self._task.cancel()
        return True

    async def follow(self, after: int = 0, *, quiet_seconds: float = _QUIET_SECONDS) -> Following:
        """What comes after the event of this number, until the end; nothing when that was the end."""
        with self._followed() as wake:
            sent, index, skip = after, 0, max(0, after - SOURCES)
            told = 0 if after < SOURCES else len(self.notices)
            while True:
                if sent < STARTED and self.is_started:
                    sent = STARTED
                    yield Numbered(sent, TurnStarted(self.session_id, self.message_id))
                while sent >= STARTED and told < len(self.notices):
                    told += 1  # they have no number: who comes back may see one again
                    yield Numbered(sent, self.notices[told - 1])
                if sent < SOURCES and self.sources is not None:
                    sent = SOURCES
                    yield Numbered(sent, self.sources)
                is_over = (
                    self.is_over
                )  # before the text is looked at, which may grow while the event is taken
                if index < len(self.pieces) and sent >= SOURCES:
                    new = "".join(self.pieces[index:])
                    index = len(self.pieces)
                    new, skip = new[skip:], max(0, skip - len(new))
                    if new:
                        sent += len(new)
                        yield Numbered(sent, AnswerDelta(new))
                if is_over:
                    end = end_number(sum(map(len, self.pieces)))
                    if sent != end:
                        yield Numbered(end, self._ending())
                    return
                if not await self._news(wake, quiet_seconds):
                    yield None

    async def opening(
        self, seconds: float, meanwhile: "Callable[[LiveTurn], None]" = lambda turn: None
    ) -> None:
        """Wait until there is some text, something else to show or the end, but no longer than this.

        `meanwhile` is called with whatever comes before. Raises the turn's failure when it came before any text.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        with self._woken() as wake:
            while not self.is_over and not self.pieces and not self.notices:
                meanwhile(self)
                if not await self._news(wake, deadline - asyncio.get_running_loop().time()):
                    return
        if self.failure is not None and not self.pieces:
            raise self.failure

    async def whole(self) -> Answer:
        """The answer, when it is there. Raises the turn's failure. Who is cancelled while waiting stops the turn."""
        try:
            with self._woken() as wake:
                while not self.is_over:
                    wake.clear()
                    await wake.wait()
        finally:
            if not self.is_over:
                self.stop()
                with anyio.CancelScope(shield=True):
                    await self.ended()
        if self.failure is not None:
            raise self.failure
        assert self.done is not None
        return self.done.answer

    def begun(self, task: asyncio.Task[None]) -> None:
        """Take note of the task that is its course."""
        self._task = task

    async def ended(self) -> None:
        """Wait until its course has ended, whatever became of it."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def linger(self, seconds: float) -> None:
        """From now on it goes on for so long without anybody who follows it."""
        self.grace_seconds = seconds
        if not self._followers and not self.is_over:
            self._wait_for_return()

    def _ending(self) -> AnswerDone | TurnFailed:
        if self.done is not None:
            return self.done
        assert self.failure is not None
        return TurnFailed.of(self.failure)

    @contextmanager
    def _woken(self) -> Iterator[asyncio.Event]:
        wake = asyncio.Event()
        self._wakes.add(wake)
        try:
            yield wake
        finally:
            self._wakes.discard(wake)

    @contextmanager
    def _followed(self) -> Iterator[asyncio.Event]:
        self._followers += 1
        self._return()
        try:
            with self._woken() as wake:
                yield wake
        finally:
            self._followers -= 1
            if not self._followers and not self.is_over:
                self._wait_for_return()

    def _wait_for_return(self) -> None:
        self._return()
        if self.grace_seconds <= 0:
            self.stop()
            return
        loop = asyncio.get_running_loop()
        self._waiting_for_return = loop.call_later(self.grace_seconds, self._given_up)
        if self.left_alone is not None:
            self.left_alone(self)

    def _given_up(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self.followed_elsewhere_until:
            self._waiting_for_return = loop.call_at(self.followed_elsewhere_until, self._given_up)
        else:
            self.stop()

    def _return(self) -> None:
        if self._waiting_for_return is not None:
            self._waiting_for_return.cancel()
            self._waiting_for_return = None

    def _wake(self) -> None:
        if self.is_over:
            self._return()
        for wake in self._wakes:
            wake.set()

    @staticmethod
    async def _news(wake: asyncio.Event, seconds: float) -> bool:
        """Wait until something has happened; False when that takes longer. Cheaper than a timeout, once a token."""
        if wake.is_set():
            wake.clear()
            return True
        if seconds <= 0:
            return False
        late = False

        def give_up() -> None:
            nonlocal late
            late = True
            wake.set()

        timer = asyncio.get_running_loop().call_later(seconds, give_up)
        try:
            await wake.wait()
        finally:
            timer.cancel()
        wake.clear()
        return not late
