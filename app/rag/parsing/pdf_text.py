"""The text of a PDF page as pdfium finds it: lines in reading order, words whole again, and each line's box."""

import ctypes
import re
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from pypdfium2 import raw

from app.rag.parsing.model import Box
from app.rag.parsing.pdf_layout import Sides, reading_order, usual_pitch

_SPLIT: Final = re.compile("\r\n|[\r\n\u2028\u2029]|(\x02|\ufffe)")
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_SOFT: Final = re.compile("[\u00ad\u200b\u2060\ufeff]")
_WORD: Final = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_LAST_LETTERS: Final = re.compile(r"[^\W\d_]+$")
_FIRST_LETTERS: Final = re.compile(r"[^\W\d_]+")
_RIGHT_TO_LEFT: Final = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]+")
_LATIN_AND_ARABIC: Final = re.compile("(?<=[A-Za-z0-9])(?=[\u0620-\u064a])|(?<=[\u0620-\u064a])(?=[A-Za-z])")
_LATE_MARK: Final = re.compile("(?<=[\u0620-\u064a]) ([\u064b-\u0652])([\u0620-\u064a])")
_PARAGRAPH_PITCH: Final = 1.4
"""Of the usual distance between lines: one that is larger begins a paragraph."""


@dataclass(frozen=True, slots=True)
class PageText:
    """A page; sizes in points, boxes from the top left."""

    text: str
    lines: tuple[Box, ...]
    width: float = 0.0
    height: float = 0.0
    has_hidden: bool = False


class Words:
    """The words of the pages so far: they tell whether a word that a line's end cut is written with a hyphen."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def add(self, text: str) -> None:
        if len(self._seen) < 200_000:
            self._seen.update(word.lower() for word in _WORD.findall(text))

    def join(self, before: str, after: str) -> str:
        """What stands between the two halves of a word: a hyphen or nothing."""
        first, second = _LAST_LETTERS.search(before), _FIRST_LETTERS.match(after)
        if first is None or second is None or not second[0][0].islower():
            return "-"
        whole, hyphened = f"{first[0]}{second[0]}".lower(), f"{first[0]}-{second[0]}".lower()
        return "-" if hyphened in self._seen and whole not in self._seen else ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a page: its text, its first character's number, its box, and how it is joined to the next one."""

    text: str
    box: Sides | None
    cut: bool


def read_page(page: Any, words: Words) -> PageText:
    """The text of one page of pdfium. Raises PdfiumError."""
    with closing(page.get_textpage()) as textpage:
        characters = _characters(textpage.raw)
        right_to_left = _RIGHT_TO_LEFT.search(characters) is not None
        if right_to_left:
            characters = _mend_right_to_left(textpage.raw, characters)
        lines, hidden = _lines(page, textpage.raw, characters)
    words.add(characters)
    mirrored = right_to_left and len(_RIGHT_TO_LEFT.findall(characters)) * 2 > len(characters.split())
    order = reading_order([line.box for line in lines], [line.cut for line in lines], right_to_left=mirrored)
    return _put_together([lines[number] for number in order], words, size=page.get_size(), hidden=hidden)


def _characters(textpage: Any) -> str:
    """One character for each that pdfium counts, whose numbers its other functions want."""
    count = raw.FPDFText_CountChars(textpage)
    if count <= 0:
        return ""
    buffer = ctypes.create_string_buffer(4 * (count + 1))
    written = raw.FPDFText_GetText(textpage, 0, count, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)))
    if written - 1 == count:
        text = buffer.raw[: 2 * count].decode("utf-16-le", "replace")
        if len(text) == count:
            return text
    codes = (raw.FPDFText_GetUnicode(textpage, index) for index in range(count))
    return "".join(chr(code) if 0 < code < 0x110000 else "\x01" for code in codes)


def _mend_right_to_left(textpage: Any, characters: str) -> str:
    """Several letters that are one sign on the page (a ligature, a word with its own text) are turned around by pdfium with the
    line; signs whose meaning is not in the file are noise.
    """
    found = [
        " " if ord(character) > 0x7F and raw.FPDFText_HasUnicodeMapError(textpage, index) == 1 else character
        for index, character in enumerate(characters)
    ]
    for match in _RIGHT_TO_LEFT.finditer(characters):
        start = match.start()
        boxes = [_character_box(textpage, index) for index in range(start, match.end())]
        at = 0
        while at < len(boxes):
            end = at + 1
            while end < len(boxes) and boxes[end] == boxes[at]:
                end += 1
            found[start + at : start + end] = reversed(found[start + at : start + end])
            at = end
    return "".join(found)


def _character_box(textpage: Any, index: int) -> tuple[float, ...]:
    sides = [ctypes.c_double() for _ in range(4)]
    raw.FPDFText_GetCharBox(textpage, index, *map(ctypes.byref, sides))
    return tuple(round(side.value, 1) for side in sides)


def _lines(page: Any, textpage: Any, characters: str) -> tuple[list[Line], bool]:
    paper = (*page.get_bbox(), page.get_rotation())
    lines: list[Line] = []
    hidden = False
    start = 0
    for end, following, cut in _ends(characters):
        text = characters[start:end]
        stripped = text.strip()
        if stripped:
            first = start + text.index(stripped[0])
            box = _box(textpage, first, len(stripped), paper)
            lines.append(Line(stripped if not cut else text.lstrip(), box, cut))
            hidden = hidden or _is_hidden(textpage, first)
        start = following
    return lines, hidden


def _ends(characters: str) -> list[tuple[int, int, bool]]:
    """Where each line ends, where the next begins, and whether a hyphen parts them."""
    ends = [(match.start(), match.end(), match[1] is not None) for match in _SPLIT.finditer(characters)]
    return [*ends, (len(characters), len(characters), False)]


def _box(
    textpage: Any, start: int, count: int, paper: tuple[float, float, float, float, int]
) -> Sides | None:
    found: list[tuple[float, float]] = []
    for index in range(raw.FPDFText_CountRects(textpage, start, count)):
        x0, y0, x1, y1 = (ctypes.c_double() for _ in range(4))
        raw.FPDFText_GetRect(textpage, index, *map(ctypes.byref, (x0, y0, x1, y1)))
        found += [_on_paper(x0.value, y0.value, paper), _on_paper(x1.value, y1.value, paper)]
    if not found:
        return None
    xs, ys = zip(*found, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _on_paper(x: float, y: float, paper: tuple[float, float, float, float, int]) -> tuple[float, float]:
    """A point of the file as seen on the page, which may be turned: from its top left, downwards."""
    left, bottom, right, top, rotation = paper
    if rotation == 90:
        return y - bottom, x - left
    if rotation == 180:
        return right - x, y - bottom
    if rotation == 270:
        return top - y, right - x
    return x - left, top - y


def _is_hidden(textpage: Any, index: int) -> bool:
    text_object = raw.FPDFText_GetTextObject(textpage, index)
    return (
        bool(text_object)
        and raw.FPDFTextObj_GetTextRenderMode(text_object) == raw.FPDF_TEXTRENDERMODE_INVISIBLE
    )


def _put_together(lines: list[Line], words: Words, *, size: tuple[float, float], hidden: bool) -> PageText:
    pieces: list[str] = []
    boxes: list[Box] = []
    length = 0
    before: Line | None = None
    usual = usual_pitch([line.box for line in lines])
    for line in lines:
        text = _SOFT.sub("", _CONTROL.sub(" ", line.text))
        if _RIGHT_TO_LEFT.search(text):
            # pdfium puts the blank beside Latin words on their other side, and a mark before its letter.
            text = _LATIN_AND_ARABIC.sub(" ", _LATE_MARK.sub(r"\2\1", text))
        if before is not None:
            gap = (
                words.join(pieces[-1], text)
                if before.cut
                else "\n\n"
                if _is_apart(before, line, usual)
                else "\n"
            )
            pieces.append(gap)
            length += len(gap)
        pieces.append(text)
        if line.box is not None:
            x0, y0, x1, y1 = (round(side, 1) for side in line.box)
            boxes.append((length, length + len(text), x0, y0, x1, y1))
        length += len(text)
        before = line
    width, height = size
    return PageText("".join(pieces), tuple(boxes), round(width, 1), round(height, 1), hidden)


def _is_apart(before: Line, line: Line, usual: float) -> bool:
    """Whether a paragraph or column begins with the line."""
    if before.box is None or line.box is None:
        return False
    pitch = line.box[3] - before.box[3]
    return pitch > _PARAGRAPH_PITCH * usual or pitch < -2 * (before.box[3] - before.box[1])
