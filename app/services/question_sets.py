"""Question sets in a folder, in the form of BEIR: corpus.jsonl, queries.jsonl, qrels.tsv, and unanswerable.jsonl if any."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from app.core.errors import InvalidQuestionSet

_MOST_LINES: Final = 2_000_000
_MOST_LINE_CHARACTERS: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class Passage:
    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with the grade of each item that answers it, and right answers where they are known.

    It has neither when the documents do not answer it. With `answers` alone, what contains one of them is relevant.
    """

    id: str
    text: str
    relevant: dict[str, int]
    answers: tuple[str, ...] = ()

    @property
    def is_answerable(self) -> bool:
        return bool(self.relevant or self.answers)


class Placed(Protocol):
    """Something of a document that was found: a hit, or the source of an answer."""

    @property
    def chunk_id(self) -> str: ...

    @property
    def document_id(self) -> str: ...


KeysOf = Callable[[Asked, Sequence[Placed]], list[str]]
"""The items that a question expects, which what was found stands for, in its order and each once."""


@dataclass(frozen=True, slots=True)
class QuestionSet:
    name: str
    passages: tuple[Passage, ...]
    answerable: tuple[Asked, ...]
    unanswerable: tuple[Asked, ...]


def load(folder: Path, *, most_questions: int | None = None) -> QuestionSet:
    """Read a folder; of the questions the first of each kind. Raises InvalidQuestionSet that names file and line."""
    if not folder.is_dir():
        raise InvalidQuestionSet(f"{folder} is no folder.")
    passages = tuple(
        Passage(_text(row, "_id", place), str(row.get("title") or ""), _text(row, "text", place))
        for place, row in _rows(folder / "corpus.jsonl")
    )
    known = {passage.id for passage in passages}
    relevant = _relevant(folder / "qrels.tsv", known)
    questions = [
        (_text(row, "_id", place), _text(row, "text", place), _answers(row))
        for place, row in _rows(folder / "queries.jsonl")
    ]
    answerable = [
        Asked(key, text, relevant[key], answers) for key, text, answers in questions if key in relevant
    ]
    if not passages or not answerable:
        raise InvalidQuestionSet(
            f"{folder} has no passages, or no question whose passages are in the corpus."
        )
    unanswerable = []
    if (folder / "unanswerable.jsonl").exists():
        unanswerable = [
            Asked(_text(row, "_id", place), _text(row, "text", place), {})
            for place, row in _rows(folder / "unanswerable.jsonl")
        ]
    return QuestionSet(
        folder.resolve().name,
        passages,
        tuple(answerable[:most_questions]),
        tuple(unanswerable[:most_questions]),
    )


def _relevant(path: Path, known: set[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        columns = line.split("\t")
        if number == 1 and columns[-1].strip().lower() == "score":
            continue
        try:
            question, passage, grade = columns[0], columns[1], int(float(columns[2]))
        except (IndexError, ValueError, OverflowError) as error:
            raise InvalidQuestionSet(
                f"{path}:{number} is not question, passage and grade with tabs between."
            ) from error
        if grade > 0 and passage in known:
            found.setdefault(question, {})[passage] = min(grade, 10)
    return found


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in _lines(path):
        place = f"{path}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidQuestionSet(f"{place} is not JSON.") from error
        if not isinstance(row, dict):
            raise InvalidQuestionSet(f"{place} is not an object.")
        yield place, row


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if number > _MOST_LINES or len(line) > _MOST_LINE_CHARACTERS:
                    raise InvalidQuestionSet(f"{path} is too large at line {number}.")
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidQuestionSet(f"{path} can't be read as UTF-8 text.") from error


def _answers(row: dict[str, Any]) -> tuple[str, ...]:
    """The gold answers, under either of their usual names."""
    given = row.get("answers", row.get("answer"))
    listed = given if isinstance(given, list) else [given]
    return tuple(answer for answer in listed if isinstance(answer, str) and answer.strip())


def _text(row: dict[str, Any], key: str, place: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InvalidQuestionSet(f"{place} has no text in `{key}`.")
    return value
