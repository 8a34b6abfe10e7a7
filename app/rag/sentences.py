"""Sentences with exact offsets, and comparable words, for any script, in time linear in the text.

Owns the rules that say where a sentence ends: Unicode terminators (`.` only where it does end a sentence),
blank lines, list items, table rows, headings, and lines that were not merely wrapped. Owns what a word is:
runs of letters and digits, folded; overlapping character pairs in scripts without spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

MAX_SENTENCE_CHARS = 600

# Terminators of scripts whose full stop means nothing else: they end a sentence without a space after them.
_UNAMBIGUOUS = "。！？｡؟।॥۔։።။៕᠃"
_CLOSERS = "\"'”’»›）)\\]】」』〕〉》"
# A run of terminators, the quotes and brackets that close with it, and footnote marks ("word.[1][2]").
# Possessive quantifiers: the run is taken whole or not at all, so no text makes the scan go back.
_STOP = re.compile(rf"[.!?…．{_UNAMBIGUOUS}]++[{_CLOSERS}]*+(?:\[\d{{1,3}}\])*+")
_BULLET = re.compile(r"(?:[-*+•·▪◦‣–—●○■□➢➤✓✔]|#{1,6})[^\S\n]++")
_NUMBERED = re.compile(
    r"(?:\(?\d{1,3}[.)]|\(?[A-Za-z][.)]|[(（][一二三四五六七八九十]{1,3}[)）]|[一二三四五六七八九十]{1,3}、)[^\S\n]*+"
)
# Under a heading, or between the head of a table and its rows.
_RULE = re.compile(r"[|:=\-\s]{3,}+")
_EMPHASIS = "*_`"
_ASKS = ("?", "？", "؟")
MAX_HEADING_CHARS = 80
# Below the six levels of Markdown: lines without a mark, questions (of an FAQ), the heads of tables.
_LEVEL_OF_LINE, _LEVEL_OF_QUESTION, LEVEL_OF_TABLE = 7, 8, 9
_FIRST_WORD = re.compile(r"\S{0,40}")
_LAST_TOKEN = re.compile(r"[^\s(\[\"“‘«]*+\Z")
_LAST_TOKEN_WINDOW = 24

# Lower case, without the last dot: English; Malay, Indonesian; Spanish; French, German, Italian, Dutch.
_ABBREVIATIONS = frozenset(
    """mr mrs ms dr prof st sr jr rev hon gen col lt capt sgt sen rep gov vs cf al approx ca fig figs eq sec
    ch vol no nos nr pp pg ed eds inc ltd co corp bros dept est e.g i.e jan feb mar apr jun jul aug sep sept
    oct nov dec a.m p.m dll dsb dst rp tn ny sdr bpk yth tgl hlm hal drs ir kol jl núm sra srta ud uds ee.uu
    pág págs art av avda d dña p.ej ej mme mlle m env bzw z.b u.a d.h ggf evtl usw str hr fr sig dott ecc dhr
    mevr bijv""".split()
)
_WRAP_WIDTHS = range(40, 161)

# Scripts without spaces (Thai, Lao, Burmese, Khmer, kana, Han), and Hangul, whose particles stick to the word.
_DENSE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
)
# Vowel signs are no letters to `\w`, yet part of the word.
_SIGNS = "\u0300-\u036f\u0591-\u05bd\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
_WORD = re.compile(
    rf"[{_DENSE}]++"
    rf"|[^\W_{_DENSE}](?:[^\W_{_DENSE}]|[{_SIGNS}]|(?<=\d)[.,](?=\d))*+(?:['’][^\W\d_]{{1,3}}(?![^\W_]))?"
)
_ASCII_WORD = re.compile(
    r"[A-Za-z0-9]++(?:(?<=\d)[.,](?=\d)[A-Za-z0-9]++)*+(?:'[A-Za-z]{1,3}(?![A-Za-z0-9]))?"
)
"""The same of texts without any other characters, in half the time."""
_DENSE_CHARACTER = re.compile(rf"[{_DENSE}]")
# Accents of Latin, Greek and Cyrillic, vowel points of Hebrew and Arabic.
_MARKS = dict.fromkeys([*range(0x300, 0x370), *range(0x591, 0x5BE), *range(0x64B, 0x660)])
_MAX_WORD_CHARS = 64


class Kind(Enum):
    """What a sentence is, or is part of. The head of a table is a heading too."""

    PROSE = "prose"
    ITEM = "item"
    ROW = "row"
    HEADING = "heading"
    QUESTION = "question"


class Span(NamedTuple):
    """A half-open range of code points."""

    start: int
    end: int


class Sentence(NamedTuple):
    """A half-open range of code points, what it is, and at which level from 1 it heads others (or 0)."""

    start: int
    end: int
    kind: Kind
    level: int = 0


class Word(NamedTuple):
    """A word as it is compared (case, accents, possessive `'s` folded), and whether it was capitalised."""

    key: str
    capitalised: bool


def split(text: str, *, max_chars: int = MAX_SENTENCE_CHARS) -> list[Sentence]:
    """The sentences of a text in order, trimmed of space and of the marks of lists, tables and headings.

    Rows and headings stay whole; whatever is longer than `max_chars` comes in pieces.
    """
    blocks = list(_blocks(text))
    found: list[Sentence] = []
    for block, below in zip(blocks, [*blocks[1:], None], strict=False):
        if _RULE.fullmatch(text, *block):
            continue
        kind, level = _kind(text, block, below)
        mark = _BULLET.match(text, *block)
        body = Span(mark.end() if mark else block.start, block.end)
        is_whole = kind is Kind.ROW or kind is Kind.HEADING
        for span in [_trim(text, *body, marks="|")] if is_whole else _sentences(text, body):
            asks = kind is not Kind.ROW and text[span.start : span.end].rstrip(_EMPHASIS).endswith(_ASKS)
            role = (Kind.QUESTION, level or _LEVEL_OF_QUESTION) if asks else (kind, level)
            found.extend(Sentence(*piece, *role) for piece in _pieces(text, span, max_chars))
    return found


def cut(text: str, max_chars: int) -> str:
    """The beginning of a text, at most `max_chars` long, ending at a word boundary where there is one."""
    return text if len(text) <= max_chars else text[: _cut_position(text, 0, max_chars)]


def words(text: str) -> list[Word]:
    """The words of a text in order; runs of scripts without spaces give overlapping character pairs."""
    if text.isascii():
        return [_word(word[:_MAX_WORD_CHARS]) for word in _ASCII_WORD.findall(text)]
    if not _DENSE_CHARACTER.search(text):
        return [_word(word[:_MAX_WORD_CHARS]) for word in _WORD.findall(text)]
    found: list[Word] = []
    for word in _WORD.findall(text):
        if is_dense(word):
            found.extend(Word(word[i : i + 2], False) for i in range(max(1, len(word) - 1)))
        else:
            found.append(_word(word[:_MAX_WORD_CHARS]))
    return found


def is_dense(word: str) -> bool:
    """Whether a word is in a script written without spaces, so that its keys are character pairs."""
    return _DENSE_CHARACTER.match(word) is not None


@lru_cache(maxsize=32_768)
def _word(word: str) -> Word:
    return Word(fold(word).removesuffix("'s"), word[0].isupper())


def fold(text: str) -> str:
    """Text for comparison: compatibility forms, case and accents folded, typographic apostrophes plain."""
    plain = unicodedata.normalize("NFKD", text).translate(_MARKS)
    return unicodedata.normalize("NFKC", plain).casefold().replace("’", "'")


def _blocks(text: str) -> Iterator[Span]:
    """Paragraphs, list items, headings and table rows; the lines of one wrapped paragraph stay together."""
    for paragraph in _paragraphs(text):
        width = max(end - start for start, end in paragraph)
        start, previous = paragraph[0].start, paragraph[0]
        for line in paragraph[1:]:
            if not _is_wrapped(text, previous, line, width):
                yield Span(start, previous.end)
                start = line.start
            previous = line
        yield Span(start, previous.end)


def _paragraphs(text: str) -> Iterator[list[Span]]:
    """Runs of lines without a blank line between them."""
    lines: list[Span] = []
    position = 0
    for line in text.splitlines(keepends=True):
        span = _trim(text, position, position + len(line))
        position += len(line)
        if span.start < span.end:
            lines.append(span)
        elif lines:
            yield lines
            lines = []
    if lines:
        yield lines


def _is_wrapped(text: str, previous: Span, line: Span, width: int) -> bool:
    """Whether a line break inside a paragraph only wraps the line."""
    ended = _is_row(text, previous) or _level(text, previous)
    if ended or _is_row(text, line) or _is_item(text, line):
        return False
    if text[line.start].islower():
        return True
    # A typesetter breaks a line where the next word no longer fits: a shorter line ended on purpose.
    first_word = _FIRST_WORD.match(text, *line)
    next_chars = len(first_word.group()) if first_word else 0
    return width in _WRAP_WIDTHS and previous.end - previous.start + 1 + next_chars > width


def _kind(text: str, block: Span, below: Span | None) -> tuple[Kind, int]:
    """What a block is, and the level of a heading."""
    if level := _level(text, block):
        return Kind.HEADING, level
    if _is_row(text, block):
        is_head = below is not None and _RULE.fullmatch(text, *below) is not None
        return (Kind.HEADING, LEVEL_OF_TABLE) if is_head else (Kind.ROW, 0)
    if _is_item(text, block):
        return Kind.ITEM, 0
    if below is not None and _heads(text, block, below):
        return Kind.HEADING, _LEVEL_OF_LINE
    return Kind.PROSE, 0


def _level(text: str, line: Span) -> int:
    """Of a heading of Markdown, from 1; 0 for everything else."""
    mark = _BULLET.match(text, *line) if text[line.start] == "#" else None
    return mark.group().count("#") if mark else 0


def _is_row(text: str, line: Span) -> bool:
    """Of a table: cells between bars, also without the outer ones."""
    return text[line.start] == "|" or text.count(" | ", *line) > 1


def _is_item(text: str, line: Span) -> bool:
    return _BULLET.match(text, *line) is not None or _NUMBERED.match(text, *line) is not None


def _heads(text: str, block: Span, below: Span) -> bool:
    """Whether a line without a mark is a heading: short, not ended, and above a list or longer prose.

    A list of short lines without marks ("Price: 500") is not made of headings: none of them ends as prose.
    """
    if block.end - block.start > MAX_HEADING_CHARS or _is_row(text, below):
        return False
    line = text[block.start : block.end].strip(_EMPHASIS)
    if "\n" in line or not line[-1:].isalnum():
        return False
    if _is_item(text, below) or _RULE.fullmatch(text, *below):
        return True
    is_longer = below.end - below.start > block.end - block.start
    return is_longer and _STOP.search(text, *below) is not None


def _sentences(text: str, block: Span) -> Iterator[Span]:
    start = block.start
    numbered = _NUMBERED.match(text, *block)
    for stop in _STOP.finditer(text, numbered.end() if numbered else start, block.end):
        if _ends_sentence(text, stop, block.end):
            yield _trim(text, start, stop.end())
            start = stop.end()
    yield _trim(text, start, block.end)


def _ends_sentence(text: str, stop: re.Match[str], block_end: int) -> bool:
    mark, end = stop.group(), stop.end()
    if end >= block_end or any(char in _UNAMBIGUOUS for char in mark[:8]):
        return True
    if not text[end].isspace():
        return mark.endswith("]") and not text[end].islower()
    following = text[end : end + 8].lstrip()
    is_omission = mark.startswith(("…", "...")) and text[stop.start() - 1 : stop.start()].isspace()
    if is_omission or (following and following[0].islower()):
        return False
    return mark[0] != "." or not _is_abbreviation(text, stop.start(), before_number=following[:1].isdigit())


def _is_abbreviation(text: str, dot: int, *, before_number: bool) -> bool:
    """Whether the word before a dot is an abbreviation ("p. 12"), an initial ("J.") or acronym ("U.S.")."""
    token = _LAST_TOKEN.search(text[max(0, dot - _LAST_TOKEN_WINDOW) : dot])
    word = token.group() if token else ""
    if len(word) == 1 or (len(word) <= 7 and all(len(part) == 1 for part in word.split("."))):
        return word[:1].isupper() or (before_number and word.isalpha())
    return word.lower() in _ABBREVIATIONS


def _pieces(text: str, sentence: Span, max_chars: int) -> Iterator[Span]:
    """The sentence, in pieces if it is too long, none if it is empty."""
    start, end = sentence
    while end - start > max_chars:
        position = _cut_position(text, start, start + max_chars)
        yield _trim(text, start, position)
        start = _trim(text, position, end).start
    if start < end:
        yield Span(start, end)


def _cut_position(text: str, start: int, limit: int) -> int:
    """The last word boundary in the second half of `text[start:limit]`, else `limit` off combining marks."""
    for position in range(limit, start + (limit - start) // 2, -1):
        if text[position].isspace() or text[position - 1] in "、，；;,":
            return position
    position = limit
    while position > start + 1 and unicodedata.combining(text[position]):
        position -= 1
    return position


def _trim(text: str, start: int, end: int, *, marks: str = "") -> Span:
    while start < end and (text[start].isspace() or text[start] in marks):
        start += 1
    while end > start and (text[end - 1].isspace() or text[end - 1] in marks):
        end -= 1
    return Span(start, end)
