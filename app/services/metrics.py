"""What one process can say of itself in numbers, for all that it serves and of nobody in particular."""

from collections import Counter
from dataclasses import dataclass, field

from app.rag.circuits import CircuitState
from app.services.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Metric:
    """One value of a gauge, with its labels."""

    name: str
    help: str
    value: float
    labels: dict[str, str] = field(default_factory=dict)


def collect(runtime: Runtime) -> list[Metric]:
    """The gauges of this process, those of one name together.

    Of the circuits only those of the environment's own provider are named: where the bots of an organization send their
    questions is no other's concern.
    """
    states = runtime.circuits.states()
    counted = Counter(states.values())
    circuits = "Circuit breakers of model providers by state."
    own = "State of the circuit breaker of a model of OPENAI_BASE_URL: 0 closed, 1 half open, 2 open."
    severity = list(CircuitState.by_severity())
    return [
        Metric("ibid_turns", "Answers that are being given.", len(runtime.turns)),
        *(
            Metric("ibid_provider_circuits", circuits, counted[state], {"state": state.value})
            for state in severity
        ),
        *(
            Metric("ibid_provider_circuit_state", own, severity.index(state), {"model": model})
            for (base_url, model), state in sorted(states.items())
            if base_url == runtime.settings.openai_base_url
        ),
    ]
