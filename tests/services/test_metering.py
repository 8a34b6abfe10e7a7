"""No model is called but through its meter: whoever takes a bare one puts a meter around it, or stands in a list with the reason."""

import ast
from pathlib import Path

SERVICES = Path(__file__).resolve().parents[2] / "app" / "services"
TAKING = {"chat_model", "bot_models"}
ASKING = {"generate", "complete", "achat", "astream_chat"}

UNMETERED = {
    "bots.py": "says which model is a bot's, and asks none",
    "secret_rotation.py": "forgets what was made with old keys",
    "bot_care.py": "forgets what was made of an earlier version",
    "bot_trial.py": "asks past all limits whether a model answers, and notes it as a probe",
    "diagnostics.py": "`ibid doctor`, on nobody's account",
}
ASKING_THEMSELVES = {
    "answering.py": "with a metered one of its succession",
    "diagnostics.py": "`ibid doctor`, on nobody's account",
}


def attributes(path: Path) -> set[str]:
    """The names that a module takes from something else, or calls on it."""
    return {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}


def test_whoever_takes_a_model_puts_a_meter_around_it() -> None:
    bare = {
        path.name
        for path in SERVICES.glob("*.py")
        if attributes(path) & TAKING and "metered" not in attributes(path)
    }

    assert bare <= UNMETERED.keys(), bare - UNMETERED.keys()


def test_models_are_asked_in_the_rag_package_with_what_they_are_given() -> None:
    asking = {path.name for path in SERVICES.glob("*.py") if attributes(path) & ASKING}

    assert asking <= ASKING_THEMSELVES.keys(), asking - ASKING_THEMSELVES.keys()
