"""Circuit breakers: a provider that failed several times in a row is not asked for a while, so that nobody waits for it.

One a provider, model and key, in each process. After its pause a single question is let through: if it is answered, all are.
"""

import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

import structlog

from app.core.errors import ProviderPaused

log = structlog.get_logger(__name__)

_WINDOW_SECONDS: Final = 60.0
"""Failures further apart than this are no row of failures."""
_MOST_CIRCUITS: Final = 1_000
_PROBE_RETRY_SECONDS: Final = 1.0


class CircuitState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"

    @classmethod
    def by_severity(cls) -> "tuple[CircuitState, ...]":
        return cls.CLOSED, cls.HALF_OPEN, cls.OPEN


class Circuit:
    """Ask `admit` before each question, and tell how it went by exactly one of the other three."""

    def __init__(self, name: str, *, failures: int, pause_seconds: float, now: Callable[[], float]) -> None:
        self.name = name
        self._most_failures = failures
        self._pause_seconds = pause_seconds
        self._now = now
        self._failures = 0
        self._last_failure_at = 0.0
        self._opened_at: float | None = None
        self._is_probed = False

    @property
    def state(self) -> CircuitState:
        if self._opened_at is None:
            return CircuitState.CLOSED
        is_paused = self._now() < self._opened_at + self._pause_seconds
        return CircuitState.OPEN if is_paused else CircuitState.HALF_OPEN

    @property
    def is_idle(self) -> bool:
        """Whether forgetting it would change nothing."""
        return self._opened_at is None and not self._failures

    def admit(self) -> None:
        """Raises ProviderPaused, with how long the pause still is, unless the provider may be asked."""
        if self._opened_at is None:
            return
        left = self._opened_at + self._pause_seconds - self._now()
        if left > 0:
            raise ProviderPaused(retry_after_seconds=left)
        if self._is_probed:
            raise ProviderPaused(retry_after_seconds=_PROBE_RETRY_SECONDS)
        self._is_probed = True

    def succeeded(self) -> None:
        if self._opened_at is not None:
            log.info("provider_circuit_closed", circuit=self.name)
        self._failures, self._opened_at, self._is_probed = 0, None, False

    def failed(self) -> None:
        now = self._now()
        if now - self._last_failure_at > _WINDOW_SECONDS:
            self._failures = 0
        self._failures += 1
        self._last_failure_at = now
        was_probed, self._is_probed = self._is_probed, False
        if was_probed or (self._opened_at is None and 0 < self._most_failures <= self._failures):
            self._opened_at = now
            log.warning(
                "provider_circuit_opened",
                circuit=self.name,
                failures=self._failures,
                pause_seconds=self._pause_seconds,
            )

    def given_up(self) -> None:
        """Whoever asked went away before it was known how it went."""
        self._is_probed = False


class Circuits:
    """Those of one process. With `failures` 0 none ever opens."""

    def __init__(
        self, *, failures: int = 0, pause_seconds: float = 30.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures = failures
        self._pause_seconds = pause_seconds
        self._now = now
        self._circuits: dict[tuple[str, str, str], Circuit] = {}

    def of(self, base_url: str, model: str, credential: str) -> Circuit:
        """The circuit of this model of this provider; one key that is used up is no concern of another's."""
        key = base_url, model, credential
        circuit = self._circuits.get(key)
        if circuit is None:
            self._make_room()
            circuit = self._circuits[key] = Circuit(
                f"{base_url} {model}",
                failures=self._failures,
                pause_seconds=self._pause_seconds,
                now=self._now,
            )
        return circuit

    def states(self) -> Mapping[tuple[str, str], CircuitState]:
        """By provider and model the worst state of any key."""
        worst: dict[tuple[str, str], CircuitState] = {}
        for (base_url, model, _), circuit in self._circuits.items():
            name = base_url, model
            worst[name] = max(
                worst.get(name, CircuitState.CLOSED), circuit.state, key=CircuitState.by_severity().index
            )
        return worst

    def _make_room(self) -> None:
        if len(self._circuits) >= _MOST_CIRCUITS:
            self._circuits = {key: one for key, one in self._circuits.items() if not one.is_idle}
