"""Text put together from marked-up pieces: words, lines, paragraphs, list items, table rows and headings."""

import re
from collections.abc import Sequence
from typing import Final

from app.rag.parsing.model import Heading

_SPACE: Final = re.compile(r"[ \t\r\n\f\v\u00a0\u2002\u2003\u2009]+")
_INVISIBLE: Final = re.compile("[\u00ad\u200b\u2060\ufeff]")
_BEFORE_A_NUMBER: Final = re.compile(r"^[(\-–]?\s?(?:[$€£¥₹]|RM|USD|EUR)\s?\(?$")
_AFTER_A_NUMBER: Final = re.compile(r"^[)%]{1,3}$")
CELL: Final = " | "


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row that has a word: cells by `|`, without columns that are empty in the whole table.

    The signs that tables for print put into cells of their own (`$`, `%`, `)`) go back to their numbers.
    """
    joined = [_join_signs(row) for row in rows]
    width = max(map(len, joined), default=0)
    used = [index for index in range(width) if any(index < len(row) and row[index] for row in joined)]
    lines = (
        CELL.join(row[index] if index < len(row) else "" for index in used) for row in joined if any(row)
    )
    return [line.rstrip("| ") if line.strip("| ") else line for line in lines]


def _join_signs(row: Sequence[str]) -> list[str]:
    cells = list(row)
    for index, cell in enumerate(cells):
        if _BEFORE_A_NUMBER.match(cell):
            following = next(
                (place for place in range(index + 1, min(index + 3, len(cells))) if cells[place]), None
            )
            if following is not None and cells[following][0].isdigit():
                cells[index], cells[following] = "", cell + cells[following]
        elif index and _AFTER_A_NUMBER.match(cell):
            before = next((place for place in range(index - 1, max(index - 3, -1), -1) if cells[place]), None)
            if before is not None and cells[before][-1].isdigit():
                cells[index], cells[before] = "", cells[before] + cell
    return cells


class Cell(list[str]):
    """The pieces of the text of a table's cell."""


class Flow:
    """A text that grows. Space between words collapses to a blank, as in print; the ranges of headings are kept."""

    def __init__(self) -> None:
        self.text = ""
        self.headings: list[Heading] = []
        self._pieces: list[str] = []
        self._length = 0
        self._newlines = 2
        """Line ends at the end of the text so far; two at its start, where none is needed."""
        self._wanted = 0
        self._blank = False
        self._heading: tuple[int, int, int] | None = None
        """Where it starts, its level, and how many pieces there were before it."""
        self._layouts: list[bool] = []
        """Of each open table, whether it only arranges what is in it."""
        self._rows: list[list[Cell]] | None = None
        """The pieces of the cells of the outermost open table of data."""

    def words(self, text: str, *, preformatted: bool = False) -> None:
        """Text within a line; what is preformatted keeps its lines and blanks."""
        if not text:
            return
        if self._rows is not None:
            if self._rows and self._rows[-1]:
                self._rows[-1][-1].append(text)
            return
        if preformatted:
            self._preformatted(text)
            return
        collapsed = _SPACE.sub(" ", _INVISIBLE.sub("", text))
        body = collapsed.strip(" ")
        if not body:
            self._blank = True
            return
        self._break()
        if (self._blank or collapsed[0] == " ") and self._newlines == 0:
            self._append(" ")
        self._append(body)
        self._newlines = 0
        self._blank = collapsed[-1] == " "

    def line(self) -> None:
        """What follows stands on a line of its own; within a table's cell, after a blank."""
        self._want(1)

    def paragraph(self) -> None:
        """What follows is a paragraph of its own; within a table's cell, after a blank."""
        self._want(2)

    def item(self, marker: str = "-") -> None:
        """What follows is an item of a list."""
        self.line()
        if self._rows is None:
            self.words(marker)
            self._blank = True

    def heading(self, level: int) -> None:
        """What follows, up to `end_heading`, is a heading; level 1 is the highest."""
        self.paragraph()
        if self._rows is None:
            self._heading = (self._length, level, len(self._pieces))

    def end_heading(self) -> None:
        if self._heading is not None:
            start, level, before = self._heading
            words = "".join(self._pieces[before:])
            stripped = words.strip()
            if stripped:
                begin = start + words.index(stripped)
                self.headings.append(Heading(begin, begin + len(stripped), level))
        self._heading = None
        self.paragraph()

    def table(self, *, layout: bool = False) -> None:
        """A table begins: rows of cells, or only the `layout` of what is in it. One within a cell is a part of that cell."""
        self._layouts.append(layout)
        if self._rows is None:
            self.paragraph()
            if not layout:
                self._rows = []
        else:
            self.words(" ")

    def row(self) -> None:
        """The cells that follow are a row."""
        if self._rows is None:
            self.paragraph()
        elif self._is_outermost():
            self._rows.append([])
        else:
            self.words(" ")

    def cell(self, *, times: int = 1, same: Cell | None = None) -> Cell | None:
        """What follows, up to the next cell, is a cell; `times` how often it stands in the row.

        Gives what stands for the cell in the table, or None where it is no cell of its own. That of a merged cell is the `same`
        in the rows below.
        """
        if self._rows is None:
            self.paragraph()
            return None
        if not self._is_outermost():
            self.words(" ")
            return None
        if not self._rows:
            self._rows.append([])
        cell = Cell() if same is None else same
        self._rows[-1].extend(cell for _ in range(times))
        return cell

    def end_table(self) -> None:
        if not self._layouts:
            return
        outermost = self._is_outermost()
        layout = self._layouts.pop()
        if self._rows is not None and not layout and outermost:
            rows = [[_collapsed("".join(cell)) for cell in row] for row in self._rows]
            self._rows = None
            for text in table_lines(rows):
                self.line()
                self.words(text)
        self.paragraph()

    def finish(self) -> None:
        """No more will come: `text` is whole."""
        while self._layouts:
            self.end_table()
        self.text = "".join(self._pieces)

    def _is_outermost(self) -> bool:
        return self._layouts.count(False) == 1 and not self._layouts[-1]

    def _want(self, newlines: int) -> None:
        if self._rows is None:
            self._wanted = max(self._wanted, newlines)
        else:
            self.words(" ")

    def _break(self) -> None:
        if self._wanted > self._newlines:
            self._append("\n" * (self._wanted - self._newlines))
            self._newlines = self._wanted
        if self._wanted:
            self._blank = False
        self._wanted = 0

    def _append(self, piece: str) -> None:
        self._pieces.append(piece)
        self._length += len(piece)

    def _preformatted(self, text: str) -> None:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        if self._wanted or self._newlines:
            text = text.lstrip("\n")
        if not text:
            return
        self._break()
        if self._blank and self._newlines == 0:
            self._append(" ")
        self._append(text)
        self._newlines = len(text) - len(text.rstrip("\n"))
        self._blank = False


def _collapsed(text: str) -> str:
    return _SPACE.sub(" ", _INVISIBLE.sub("", text)).strip(" ")
