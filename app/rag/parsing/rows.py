"""Tables of data to text that is read row by row: each value with the name of its column, so that a row says what it is."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

_SPACE: Final = re.compile(r"\s+")
_NUMBER: Final = re.compile(r"^[(\-+−$€£¥]*\s*\d[\d\s.,:/%()\-]*$")
_NAME_CHARACTERS: Final = 100
_LEAST_NAMED: Final = 0.5


def header_of(first: Sequence[str], following: Sequence[Sequence[str]]) -> list[str] | None:
    """The names of the columns, if the first row has them: words, mostly different, above at least one row."""
    names = [one_line(cell) for cell in first]
    given = [name for name in names if name]
    width = max([len(names), *(len(row) for row in following)])
    if not following or width < 2 or len(given) < max(_LEAST_NAMED * width, 1):
        return None
    if any(len(name) > _NAME_CHARACTERS for name in given) or len(set(given)) * 2 <= len(given):
        return None
    # Years are names of columns too, so some numbers are allowed, but not a row of nothing else.
    if sum(1 for name in given if _NUMBER.match(name)) * 2 > len(given):
        return None
    return names


def table_lines(
    first_rows: Sequence[Sequence[str]], others: Iterable[Sequence[str]] = ()
) -> tuple[list[str], Iterator[str]]:
    """The names of the columns, empty where there are none, and a line for each row.

    `first_rows` are the beginning of the table, from which it is told whether it has names; titles may stand above those.
    """
    start = 0
    while (
        start < len(first_rows) - 2
        and sum(map(bool, first_rows[start])) == 1
        and any(sum(map(bool, row)) > 1 for row in first_rows[start + 1 :])
    ):
        start += 1
    titles, rest = first_rows[:start], first_rows[start:]
    names = header_of(rest[0], rest[1:]) if rest else None
    unnamed = [*titles, *rest[:1]]
    return [name for name in names or () if name], chain(
        lines(unnamed, None), lines(chain(rest[1:], others), names)
    )


def lines(rows: Iterable[Sequence[str]], names: Sequence[str] | None) -> Iterator[str]:
    """A line for each row that has a value."""
    for row in rows:
        cells = [one_line(cell) for cell in row]
        if not any(cells):
            continue
        if names is None:
            yield " | ".join(cells).rstrip("| ") or " | ".join(cells)
        else:
            yield "; ".join(_named(cells, names))


def _named(cells: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    for place, cell in enumerate(cells):
        if cell:
            name = names[place] if place < len(names) else ""
            yield f"{name}: {cell}" if name else cell


def one_line(text: str) -> str:
    return _SPACE.sub(" ", text).strip()
