"""Circuit breakers: when a provider is not asked, and when it is asked again."""

import pytest

from app.core.errors import ProviderPaused
from app.rag.circuits import Circuit, Circuits, CircuitState


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuits(failures=3, pause_seconds=30, now=clock).of("https://provider", "model", "key")


def state_of(circuit: Circuit) -> CircuitState:
    return circuit.state


def fail(circuit: Circuit, times: int) -> None:
    for _ in range(times):
        circuit.admit()
        circuit.failed()


def test_it_opens_after_failures_in_a_row(circuit: Circuit) -> None:
    fail(circuit, 2)
    circuit.admit()
    circuit.succeeded()
    fail(circuit, 2)
    assert state_of(circuit) is CircuitState.CLOSED
    fail(circuit, 1)

    assert state_of(circuit) is CircuitState.OPEN
    with pytest.raises(ProviderPaused) as paused:
        circuit.admit()
    assert paused.value.retry_after_seconds == 30


def test_failures_far_apart_are_no_row(circuit: Circuit, clock: Clock) -> None:
    for _ in range(10):
        fail(circuit, 1)
        clock.seconds += 61

    assert state_of(circuit) is CircuitState.CLOSED


def test_one_request_tries_after_the_pause_and_closes_it(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.seconds += 30
    assert state_of(circuit) is CircuitState.HALF_OPEN
    circuit.admit()
    with pytest.raises(ProviderPaused):
        circuit.admit()
    circuit.succeeded()

    circuit.admit()
    assert state_of(circuit) is CircuitState.CLOSED


def test_a_try_that_fails_opens_it_again_at_once(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.seconds += 30
    fail(circuit, 1)

    assert state_of(circuit) is CircuitState.OPEN
    with pytest.raises(ProviderPaused):
        circuit.admit()


def test_a_try_that_is_given_up_leaves_the_next_one_to_another(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.seconds += 30
    circuit.admit()
    circuit.given_up()

    circuit.admit()


def test_answers_that_were_under_way_do_not_lengthen_the_pause(circuit: Circuit, clock: Clock) -> None:
    for _ in range(6):
        circuit.admit()
    for _ in range(6):
        circuit.failed()
        clock.seconds += 5

    clock.seconds += 10
    assert state_of(circuit) is CircuitState.HALF_OPEN


def test_each_model_and_key_has_its_own(clock: Clock) -> None:
    circuits = Circuits(failures=1, pause_seconds=30, now=clock)
    fail(circuits.of("https://provider", "model", "used up"), 1)

    circuits.of("https://provider", "model", "another key").admit()
    circuits.of("https://provider", "another model", "used up").admit()
    assert circuits.states()["https://provider", "model"] is CircuitState.OPEN


def test_without_a_limit_it_never_opens(clock: Clock) -> None:
    circuit = Circuits(failures=0, now=clock).of("https://provider", "model", "key")
    fail(circuit, 100)

    circuit.admit()


def test_those_that_are_idle_make_room(clock: Clock) -> None:
    circuits = Circuits(failures=1, now=clock)
    fail(circuits.of("https://provider", "broken", "key"), 1)
    for number in range(2_500):
        circuits.of("https://provider", f"model {number}", "key")

    assert len(circuits.states()) <= 1_001
    assert circuits.states()["https://provider", "broken"] is CircuitState.OPEN
