"""How well a text can be cut before an atom: the rules that say where sentences, lines and paragraphs end."""

import unicodedata
from enum import IntEnum
from typing import Final

WORD, MARK, IDEOGRAPH = 1, 2, 3
"""The kinds of atoms."""

LONGEST_HEADING: Final = 300
TERMINATORS: Final = frozenset(".!?…؟۔।॥։။።។")
TERMINATORS_WITHOUT_SPACE: Final = frozenset("。！？｡")
CLOSERS: Final = frozenset("\"')]}”’»」』）")
MAY_END_SENTENCE: Final = TERMINATORS | CLOSERS
_ZERO_WIDTH_JOINER: Final = "\u200d"
# Also the skin colours of emoji, which are no marks to Unicode.
JOINERS: Final = frozenset("\u200d\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")
COMBINING: Final = tuple(code for code in range(0x300, 0x20000) if unicodedata.category(chr(code))[0] == "M")
"""The marks of Unicode that belong to the character before them, but for the selectors beyond all letters and ideographs."""


class Cut(IntEnum):
    """How well a text can be cut somewhere, the best last."""

    INSIDE_WORD = 0
    WORD = 1
    LINE = 2
    SENTENCE = 3
    SENTENCE_AND_LINE = 4
    PARAGRAPH = 5
    SECTION = 6


def joins(text: str, position: int) -> bool:
    """Whether the characters on both sides of a position are shown as one."""
    character = text[position]
    if character.isascii():
        return False
    return (
        unicodedata.category(character).startswith("M")
        or character in JOINERS
        or text[position - 1] == _ZERO_WIDTH_JOINER
    )


def cut_before(text: str, previous_end: int, start: int, *, kinds: tuple[int, int]) -> Cut:
    gap = text[previous_end:start]
    if not gap:
        return _cut_without_space(text, start, kinds=kinds)
    if gap == " " and text[previous_end - 1] not in MAY_END_SENTENCE:
        return Cut.WORD
    ends_sentence = _ends_sentence(text, previous_end, TERMINATORS) and not text[start].islower()
    lines = max(gap.count("\n"), gap.count("\r"))
    if lines:
        return _cut_between_lines(text, previous_end, start, lines=lines, ends_sentence=ends_sentence)
    return Cut.SENTENCE if ends_sentence else Cut.WORD


def _cut_without_space(text: str, start: int, *, kinds: tuple[int, int]) -> Cut:
    before, after = kinds
    if after == MARK or not start or joins(text, start):
        return Cut.INSIDE_WORD
    if before == MARK and _ends_sentence(text, start, TERMINATORS_WITHOUT_SPACE):
        return Cut.SENTENCE
    return Cut.WORD if IDEOGRAPH in kinds else Cut.INSIDE_WORD


def _cut_between_lines(text: str, previous_end: int, start: int, *, lines: int, ends_sentence: bool) -> Cut:
    line_start = text.rfind("\n", max(0, previous_end - LONGEST_HEADING), previous_end) + 1
    if text[line_start] == "#":
        # A heading in Markdown belongs to what follows it.
        return Cut.WORD
    if text[start] == "#":
        return Cut.SECTION
    if lines > 1:
        return Cut.PARAGRAPH
    return Cut.SENTENCE_AND_LINE if ends_sentence else Cut.LINE


def _ends_sentence(text: str, end: int, terminators: frozenset[str]) -> bool:
    """Whether a sentence ends there, be it inside a quotation or brackets. An initial (`J.`) is no end."""
    before, last = text[max(0, end - 3) : end - 1], text[end - 1 : end]
    if last in CLOSERS:
        return before[-1:] in terminators
    return last in terminators and not (last == "." and before[-1:].isalpha() and not before[:-1].isalnum())
