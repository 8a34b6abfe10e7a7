"""JSON and JSON Lines: each value with the path to it, each record a paragraph, long texts as they are."""

import json
from collections.abc import Iterator
from typing import Any, Final

from app.rag.parsing.answer import Answer, Job
from app.rag.parsing.model import Kind
from app.rag.parsing.plain import read_text

_TEXT_CHARACTERS: Final = 200
_LIST_CHARACTERS: Final = 500
_DEPTH: Final = 100


def parse(job: Job, answer: Answer) -> None:
    text, encoding = read_text(job, answer)
    answer.add(encoding=encoding)
    if job.kind is Kind.JSONL:
        answer.text("\n\n".join(_json_lines(text, answer)))
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if (records := _as_lines(text)) is not None:
            answer.text("\n\n".join(records))
            return
        answer.warn("broken_json", "This is no valid JSON; it was read as text.")
        answer.text(text)
        return
    records = [_record(item) for item in value] if isinstance(value, list) else [_record(value)]
    answer.text("\n\n".join(record for record in records if record))


def _json_lines(text: str, answer: Answer) -> Iterator[str]:
    for line in text.split("\n"):
        if not line.strip():
            continue
        try:
            yield _record(json.loads(line))
        except (ValueError, RecursionError):
            answer.warn("broken_json", "Some lines are no valid JSON; they were read as text.")
            yield line.strip()


def _as_lines(text: str) -> list[str] | None:
    """The records of JSON Lines that call themselves JSON."""
    found = [line for line in text.split("\n") if line.strip()]
    if len(found) < 2:
        return None
    try:
        return [_record(json.loads(line)) for line in found]
    except (ValueError, RecursionError):
        return None


def _record(value: Any) -> str:
    return "\n".join(_lines(value, "", 0))


def _lines(value: Any, path: str, depth: int) -> Iterator[str]:
    if isinstance(value, dict) and depth < _DEPTH:
        for key, item in value.items():
            yield from _lines(item, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, list) and depth < _DEPTH:
        shown = [_scalar(item) for item in value if not isinstance(item, dict | list)]
        if len(shown) == len(value) and sum(map(len, shown)) <= _LIST_CHARACTERS:
            if any(shown):
                yield _named(path, ", ".join(item for item in shown if item))
            return
        for number, item in enumerate(value):
            yield from _lines(item, f"{path}[{number}]", depth + 1)
    elif text := _scalar(value):
        yield _named(path, text)


def _named(path: str, text: str) -> str:
    if not path:
        return text
    if "\n" in text or len(text) > _TEXT_CHARACTERS:
        return f"{path}:\n{text}"
    return f"{path}: {text}"


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
