"""The turns that this process answers just now."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from app.core.errors import AppError
from app.core.principal import Principal
from app.services.live import LiveTurn

_CROWD: Final = 20
_MOST_PIECES_A_SECOND: Final = 2_000
"""Of all answers together."""
_LONGEST_BREATH_SECONDS: Final = 0.25


class LiveTurns:
    """Those of one process, by the id of their answer."""

    def __init__(self, *, left_alone: Callable[[LiveTurn], None] | None = None) -> None:
        self.left_alone = left_alone
        self._turns: dict[str, LiveTurn] = {}

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def breath_seconds(self) -> float:
        """How long a provider is left alone after each piece of an answer; not at all unless there are many answers at once."""
        count = len(self._turns)
        return min(_LONGEST_BREATH_SECONDS, count / _MOST_PIECES_A_SECOND) if count > _CROWD else 0.0

    def start(self, turn: LiveTurn, course: Coroutine[Any, Any, None]) -> None:
        """Let a turn take its course, which never raises."""
        self._turns[turn.message_id] = turn
        turn.left_alone = self.left_alone
        task = asyncio.create_task(course, name="turn")
        turn.begun(task)
        task.add_done_callback(lambda _: self._turns.pop(turn.message_id, None))

    def find(self, message_id: str) -> LiveTurn | None:
        return self._turns.get(message_id)

    def of_session(self, principal: Principal, session_id: str) -> LiveTurn | None:
        """The turn of a session of theirs that has begun and not ended."""
        return next(
            (
                turn
                for turn in self._turns.values()
                if turn.session_id == session_id
                and turn.is_started
                and (turn.principal.organization_id, turn.principal.id)
                == (principal.organization_id, principal.id)
            ),
            None,
        )

    def interrupt_all(self, cause: AppError) -> int:
        """End all with an error; how many that were."""
        return sum(turn.interrupt(cause) for turn in tuple(self._turns.values()))

    async def aclose(self, cause: AppError) -> None:
        """End all, and wait until they are stored."""
        self.interrupt_all(cause)
        if self._turns:
            await asyncio.gather(*(turn.ended() for turn in tuple(self._turns.values())))
