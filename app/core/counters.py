"""Counters of this process, for the log and for whoever exports them: names with labels, sums and nothing else."""

from collections import Counter
from threading import Lock
from typing import Final

Labels = tuple[tuple[str, str], ...]


class Counters:
    """Numbers that only go up. Safe to use from threads."""

    def __init__(self) -> None:
        self._values: Counter[tuple[str, Labels]] = Counter()
        self._lock = Lock()

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        key = name, tuple(sorted(labels.items()))
        with self._lock:
            self._values[key] += amount  # type: ignore[assignment]  # Counter is typed for int, and adds floats as well

    def get(self, name: str, **labels: str) -> float:
        return self._values[name, tuple(sorted(labels.items()))]

    def all(self) -> dict[tuple[str, Labels], float]:
        """A copy of everything: (name, labels) → value."""
        with self._lock:
            return dict(self._values)


counters: Final = Counters()
