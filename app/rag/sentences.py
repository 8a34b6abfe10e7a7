"""Sentences with exact offsets, and comparable words, for any script, in time linear in the text.

Owns the rules that say where a sentence ends: Unicode terminators (`.` only where it does end a sentence), blank lines,
list items, headings, and lines that were not merely wrapped. Owns what a word is: runs of letters and digits, folded;
overlapping character pairs in scripts without spaces. No language model and no word list beyond abbreviations.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Set
from functools import lru_cache
from typing import NamedTuple

MAX_SENTENCE_CHARS = 600

# Terminators of scripts whose full stop means nothing else: they end a sentence without a space after them.
_UNAMBIGUOUS = "。！？｡؟।॥۔։።။៕᠃"
_CLOSERS = "\"'”’»›）)\\]】」』〕〉》"
# A run of terminators, the quotes and brackets that close with it, and footnote marks ("word.[1][2]"). Possessive
# quantifiers: the run is taken whole or not at all, so no text makes the scan go back.
_STOP = re.compile(rf"[.!?…．{_UNAMBIGUOUS}]++[{_CLOSERS}]*+(?:\[\d{{1,3}}\])*+")
_BULLET = re.compile(r"[^\S\n]*+(?:[-*+•·▪◦‣–—●○■□➢➤✓✔]|#{1,6})[^\S\n]++")
_NUMBERED = re.compile(
    r"[^\S\n]*+(?:\(?\d{1,3}[.)]|\(?[A-Za-z][.)]|[(（][一二三四五六七八九十]{1,3}[)）]|[一二三四五六七八九十]{1,3}、)[^\S\n]*+"
)
_FIRST_WORD = re.compile(r"\S{1,40}")
_LAST_TOKEN = re.compile(r"[^\s(\[\"“‘«]*+\Z")
_LAST_TOKEN_WINDOW = 24

# Lower case, without the last dot. English, Malay/Indonesian, Spanish, Portuguese, French, German, Italian, Dutch.
_ABBREVIATIONS = frozenset(
    """mr mrs ms dr prof st sr jr rev hon gen col lt capt sgt sen rep gov vs cf al approx ca fig figs eq sec ch vol no nos
    nr núm pp pg ed eds inc ltd co corp bros dept est e.g i.e jan feb mar apr jun jul aug sep sept oct nov dec a.m p.m
    dll dsb dst tn ny sdr bpk yth tgl hlm hal drs ir kol jl
    sra srta ud uds ee.uu pág págs art av avda d dña p.ej ej
    mme mlle m env
    bzw z.b u.a d.h ggf evtl usw str hr fr
    sig dott ecc dhr mevr bijv""".split()
)
_WRAP_WIDTHS = range(40, 161)

# Scripts written without spaces (Thai, Lao, Burmese, Khmer, kana, Han), and Hangul, whose particles stick to the word.
_DENSE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
)
# Vowel signs are no letters to `\w`, yet part of the word.
_SIGNS = "\u0300-\u036f\u0591-\u05bd\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
_WORD = re.compile(
    rf"[{_DENSE}]++"
    rf"|[^\W_{_DENSE}](?:[^\W_{_DENSE}]|[{_SIGNS}]|(?<=\d)[.,](?=\d))*+(?:['’][^\W\d_]{{1,3}}(?![^\W_]))?"
)
_DENSE_START = re.compile(rf"[{_DENSE}]")
_MARKS = {
    code: None
    for first, last in ((0x300, 0x36F), (0x591, 0x5BD), (0x64B, 0x65F))
    for code in range(first, last + 1)
}
_MAX_WORD_CHARS = 64
_LEAST_SIMILARITY = 0.5
_SAME_BEGINNING = 0.15


class Span(NamedTuple):
    """A half-open range of code points."""

    start: int
    end: int


class Word(NamedTuple):
    """A word as it is compared: case, accents and a possessive `'s` folded away; `capitalised` as it was written."""

    key: str
    capitalised: bool


def split(text: str, *, max_chars: int = MAX_SENTENCE_CHARS) -> list[Span]:
    """The sentences of a text in order, trimmed of space and list marks; one longer than `max_chars` comes in pieces."""
    return [
        piece
        for block in _blocks(text)
        for sentence in _sentences(text, block)
        for piece in _pieces(text, sentence, max_chars)
    ]


def cut(text: str, max_chars: int) -> str:
    """The beginning of a text, at most `max_chars` long, ending at a word boundary where there is one."""
    return text if len(text) <= max_chars else text[: _cut_position(text, 0, max_chars)]


def words(text: str) -> list[Word]:
    """The words of a text in order; a run of a script without spaces gives its overlapping character pairs."""
    found: list[Word] = []
    for match in _WORD.finditer(text):
        word = match.group()
        if is_dense(word):
            found.extend(Word(word[i : i + 2], False) for i in range(max(1, len(word) - 1)))
        else:
            found.append(Word(_key(word[:_MAX_WORD_CHARS]), word[0].isupper()))
    return found


def is_dense(word: str) -> bool:
    """Whether a word is in a script written without spaces, so that its keys are character pairs."""
    return _DENSE_START.match(word) is not None


def similar_words(terms: Iterable[str], vocabulary: Set[str]) -> dict[str, dict[str, float]]:
    """Word → term → similarity (0.5 to 1): 1 for the same key, else the Dice coefficient of their letter trigrams.

    Trigrams stand in for a stemmer: they find a stem behind the prefixes and suffixes of any alphabetic language.
    """
    similar: dict[str, dict[str, float]] = defaultdict(dict)
    with_trigram: dict[str, list[str]] = defaultdict(list)
    for word in sorted(vocabulary):
        for trigram in _trigrams(word):
            with_trigram[trigram].append(word)
    for term in terms:
        if term in vocabulary:
            similar[term][term] = 1.0
        shared = Counter(word for trigram in _trigrams(term) for word in with_trigram.get(trigram, ()))
        for word, count in shared.items():
            dice = 2 * count / (len(_trigrams(term)) + len(_trigrams(word)))
            strength = min(1.0, dice + _SAME_BEGINNING * (word[:4] == term[:4]))
            if word != term and strength >= _LEAST_SIMILARITY:
                similar[word][term] = strength
    return dict(similar)


def _trigrams(word: str) -> frozenset[str]:
    """Of words of at least four letters; numbers match exactly or not at all."""
    if len(word) < 4 or word[0].isdigit():
        return frozenset()
    return frozenset(word[i : i + 3] for i in range(len(word) - 2))


@lru_cache(maxsize=32_768)
def _key(word: str) -> str:
    return fold(word).removesuffix("'s")


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
    if _BULLET.match(text, line.start, line.end) or _NUMBERED.match(text, line.start, line.end):
        return False
    if text[line.start].islower():
        return True
    # A typesetter breaks a line where the next word no longer fits: a shorter line ended on purpose.
    first_word = re.compile(r"\S{1,40}").match(text, line.start, line.end)
    fits = (
        previous.end - previous.start + 1 + (first_word.end() - first_word.start() if first_word else 0)
        <= width
    )
    return width in _WRAP_WIDTHS and not fits


def _sentences(text: str, block: Span) -> Iterator[Span]:
    start = block.start
    if mark := _BULLET.match(text, start, block.end):
        start = mark.end()
    numbered = _NUMBERED.match(text, start, block.end)
    for stop in _STOP.finditer(text, numbered.end() if numbered else start, block.end):
        if _ends_sentence(text, stop, block.end):
            yield from _non_empty(_trim(text, start, stop.end()))
            start = stop.end()
    yield from _non_empty(_trim(text, start, block.end))


def _ends_sentence(text: str, stop: re.Match[str], block_end: int) -> bool:
    mark, end = stop.group(), stop.end()
    if end >= block_end or any(char in _UNAMBIGUOUS for char in mark[:8]):
        return True
    if not text[end].isspace():
        return mark.endswith("]") and not text[end].islower()
    following = text[end : end + 8].lstrip()
    if following and following[0].islower():
        return False
    return mark[0] != "." or not _is_abbreviation(text, stop.start())


def _is_abbreviation(text: str, dot: int) -> bool:
    """Whether the word before a dot is an abbreviation, an initial ("J.") or an acronym with dots ("U.S.")."""
    token = _LAST_TOKEN.search(text[max(0, dot - _LAST_TOKEN_WINDOW) : dot])
    word = token.group() if token else ""
    if len(word) == 1 or (len(word) <= 7 and all(len(part) == 1 for part in word.split("."))):
        return word[:1].isupper()
    return word.lower() in _ABBREVIATIONS


def _pieces(text: str, sentence: Span, max_chars: int) -> Iterator[Span]:
    start, end = sentence
    while end - start > max_chars:
        position = _cut_position(text, start, start + max_chars)
        yield from _non_empty(_trim(text, start, position))
        start = position
    yield from _non_empty(_trim(text, start, end))


def _cut_position(text: str, start: int, limit: int) -> int:
    """The last word boundary in the second half of `text[start:limit]`, else `limit` moved off combining marks."""
    for position in range(limit, start + (limit - start) // 2, -1):
        if text[position].isspace() or text[position - 1] in "、，；;,":
            return position
    position = limit
    while position > start + 1 and unicodedata.combining(text[position]):
        position -= 1
    return position


def _trim(text: str, start: int, end: int) -> Span:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Span(start, end)


def _non_empty(span: Span) -> Iterator[Span]:
    if span.start < span.end:
        yield span
