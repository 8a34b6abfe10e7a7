"""What docs/security.md says is so: each threat names tests, and each of them is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from app.core.config import Settings

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = [
    line
    for line in PAGE.partition("## Threats")[2].splitlines()
    if line.startswith("| ") and not line.startswith("| threat")
]


@cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_every_threat_is_covered_by_tests_that_exist(row: str) -> None:
    named = re.findall(r"`(tests/[a-z_/]+\.py)::(test_[a-z0-9_]+)`", row)

    assert named, "a threat without a test"
    assert [f"{path}::{test}" for path, test in named if test not in functions_of(path)] == []


def test_there_are_threats() -> None:
    assert len(ROWS) >= 30


def test_every_setting_that_the_page_names_is_one() -> None:
    aliases = {"DB_URL", "DATABASE_URL"}
    settings = {name.upper() for name in Settings.model_fields} | aliases

    named = set(re.findall(r"`([A-Z][A-Z_]{5,})(?:=[^`]*)?`", PAGE))

    assert "SECRET_KEY" in named
    assert named - {"FORCE"} <= settings
