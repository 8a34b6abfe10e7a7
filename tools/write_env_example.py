"""Writes .env.example from the settings, so that it names every one of them: python tools/write_env_example.py"""

import re
from pathlib import Path
from typing import Final

from pydantic import AliasChoices

from app.core.config import Settings

ROOT: Final = Path(__file__).resolve().parents[1]
_SECTION: Final = re.compile(r"^    # --- (?P<title>[\w ,]+?) -+$")
_FIELD: Final = re.compile(r"^    (?P<name>[a-z_]+): ")
_WIDTH: Final = 110


def sections() -> dict[str, list[str]]:
    """The names of the settings under the headings of the source, in its order."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "app/core/config.py").read_text().splitlines():
        if heading := _SECTION.match(line):
            found[heading["title"]] = []
        elif found and (field := _FIELD.match(line)) and field["name"] in Settings.model_fields:
            found[list(found)[-1]].append(field["name"])
    return found


def environment_name(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else field.upper()


def default_text(field: str) -> str:
    default = Settings.model_fields[field].default
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default is None else str(default)


def render() -> str:
    """The whole file: every setting commented out, with its default."""
    lines = ["# Every setting of Ibid, with its default. Copy to .env and uncomment what you change."]
    for title, fields in sections().items():
        lines += ["", f"# --- {title} ---"]
        for field in fields:
            lines += [
                "",
                *_wrapped(Settings.model_fields[field].description or ""),
                f"#{environment_name(field)}={default_text(field)}",
            ]
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 3 > _WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [f"# {line}" for line in lines]


if __name__ == "__main__":
    (ROOT / ".env.example").write_text(render())
