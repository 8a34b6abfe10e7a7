"""No model is called but through its meter: whoever names a bare one stands in a list here, with the reason."""

import ast
from pathlib import Path

APP = Path(__file__).resolve().parents[2] / "app"
BARE = {
    "services/bots.py": "says which model is a bot's",
    "services/runtime.py": "has it",
    "services/fallback.py": "puts a meter around it",
    "cli/doctor.py": "the operator's, on nobody's account",
    "main.py": "makes it",
    "core/config.py": "its name",
}
CALLING = {
    "rag/metering.py": "the meter",
    "rag/llms.py": "the model",
    "services/answering.py": "gets metered ones from its succession",
    "rag/conversation.py": "gets a metered one",
    "services/diagnostics.py": "the operator's `ibid doctor`, on nobody's account",
}


def named(name: str) -> set[str]:
    """The modules that have an attribute, a function or a field of this name."""
    found = set()
    for path in APP.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (getattr(node, "attr", None), getattr(node, "arg", None), getattr(node, "name", None))
            target = node.target if isinstance(node, ast.AnnAssign) else None
            if name in (*names, getattr(target, "id", None)):
                found.add(str(path.relative_to(APP)))
    return found


def called(method: str) -> set[str]:
    found = set()
    for path in APP.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", None) == method:
                found.add(str(path.relative_to(APP)))
    return found


def test_a_bare_model_is_named_only_where_there_is_a_reason() -> None:
    assert named("chat_model") == BARE.keys()


def test_models_are_called_only_where_they_are_metered() -> None:
    assert called("generate") | called("complete") == CALLING.keys()
