"""Who has a budget at all, as this process knows it: so that whoever has none pays nothing for those who do.

Every change of a budget is announced by the database, which clears what is known here. Nothing is believed for longer than a
minute, and for no longer than a second while announcements can't arrive.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from app.core.usage import BudgetSubject, Payer

CHANNEL: Final = "ibid_budgets"
_ORGANIZATIONS_AT_MOST: Final = 10_000
_BELIEVED_SECONDS: Final = 60.0
_BELIEVED_UNHEARD_SECONDS: Final = 1.0

Subjects = frozenset[tuple[str, str | None]]
"""(subject, its id; None stands for each of them)."""


class BudgetFacts:
    """The subjects of budgets of the organizations that were asked for lately."""

    def __init__(self, changed: asyncio.Event, is_listening: Callable[[], bool]) -> None:
        """`changed` is set by every announcement, and is cleared here."""
        self._changed = changed
        self._is_listening = is_listening
        self._known: dict[str, tuple[float, Subjects]] = {}
        self._round = 0

    def find(self, organization_id: str) -> Subjects | None:
        """None where it has to be looked up; `begin` that before."""
        self._forget_what_changed()
        seconds = _BELIEVED_SECONDS if self._is_listening() else _BELIEVED_UNHEARD_SECONDS
        since, subjects = self._known.get(organization_id, (float("-inf"), None))
        return subjects if time.monotonic() - since < seconds else None

    def begin(self) -> int:
        """The number of a look-up that begins now."""
        self._forget_what_changed()
        return self._round

    def learn(self, organization_id: str, subjects: Subjects, *, begun: int) -> None:
        """Keep what a look-up found, unless something has changed since it began."""
        self._forget_what_changed()
        if begun != self._round:
            return
        if len(self._known) >= _ORGANIZATIONS_AT_MOST:
            self._known.clear()
        self._known[organization_id] = time.monotonic(), subjects

    def forget(self) -> None:
        """A budget was changed by this process itself, which need not wait to be told."""
        self._known.clear()
        self._round += 1

    def _forget_what_changed(self) -> None:
        if self._changed.is_set():
            self._changed.clear()
            self.forget()


def concerns(subjects: Subjects, payer: Payer) -> bool:
    """Whether any of the budgets limits this payer."""
    return bool(subjects) and any(
        (subject, None) in subjects or (subject, subject_id) in subjects
        for subject, subject_id in (
            (BudgetSubject.ORGANIZATION, None),
            (BudgetSubject.BOT, payer.bot_id),
            (BudgetSubject.USER, payer.user_id),
            (BudgetSubject.KEY, payer.key_id),
        )
        if subject is BudgetSubject.ORGANIZATION or subject_id is not None
    )
