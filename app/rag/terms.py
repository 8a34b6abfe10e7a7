"""Texts as weighed terms: what the lexical leg of the search stores of a chunk and asks of a question.

A term is a number, the hash of a word's stem. Words are folded (case, width, accents) and stemmed by the text's
language; scripts without spaces become pairs of characters; numbers and codes stay whole. The weight of a term in
a chunk is the part of BM25 that knows nothing of the other chunks: the frequency, damped by the chunk's length. Its
average is a constant, since chunks are cut to one size: measured, that ranks no worse than the average of the corpus.
"""

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final

from app.core.retrieval import TERM_DIMENSION, QueryTerm
from app.rag.languages import stem, stop_words

_K1: Final = 1.2
_B: Final = 0.75
_USUAL_CHARACTERS: Final = 700
_MOST_TERMS: Final = 15_000
"""A sparse vector of pgvector has at most 16,000."""
MOST_WORDS: Final = 64
_MOST_RUNS: Final = 4
_WHOLE: Final = "\0"
_FOLDED_SHARE: Final = 0.3
"""Of the weight of a word with accents, what its form without them may earn."""

Terms = dict[int, float]


def _ranges(characters: Iterable[str]) -> str:
    """As a character class: the neighbours of a sorted set joined."""
    found: list[tuple[int, int]] = []
    for code in map(ord, characters):
        if found and code == found[-1][1] + 1:
            found[-1] = (found[-1][0], code)
        else:
            found.append((code, code))
    return "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in found)


_MARKS: Final = _ranges(c for c in map(chr, range(0x300, 0x1E000)) if unicodedata.category(c)[0] == "M")
# Scripts that put no space between words: Thai, Lao, Burmese, Khmer, Tai, Javanese, kana, bopomofo, ideographs.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf\ua980-\ua9df"
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u30ff\u3105-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U0003fffd"
)
_IDEOGRAPH: Final = re.compile("[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd]")
_LETTER: Final = f"(?:(?![{_UNSPACED}])[^\\W_]|[{_MARKS}\u200c\u200d])"
_WORD: Final = f"{_LETTER}+"
# A compound is of words and single joiners; a number may have them too. Bounded, so that no input is quadratic.
_TOKEN: Final = re.compile(
    f"(?P<unspaced>[{_UNSPACED}]+)|(?P<plain>{_WORD})(?P<more>(?:[-./:_@,'’+&#\u2010\u2011]{_WORD}){{1,40}})?"
)
_PIECE: Final = re.compile(_WORD)
_DIGIT: Final = re.compile(r"\d")
_NUMBER: Final = re.compile(r"\d+(?:[.,'’]\d+)+")
_THOUSANDS: Final = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_THOUSANDS_BY_POINT: Final = re.compile(r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}")
_APOSTROPHES: Final = "'’"
_APOSTROPHE: Final = re.compile(f"[{_APOSTROPHES}]")
_JOINERS: Final = re.compile("[-./:_@,'’+&#\u2010\u2011]")
_RUNS: Final = re.compile(r"\d+|\D+")
_IBAN: Final = re.compile(r"\b[A-Z]{2}\d{2}(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?\b")
_TELEPHONE: Final = re.compile(r"(?<![\w.,-])\+?\d{1,4}(?:[ -]\(?\d{2,5}\)?){2,5}(?![\w.,-])")
_SEPARATORS: Final = re.compile(r"[^\w]|_")
_FOLDABLE: Final = re.compile(r"[a-z\u00df-\u024f\u0370-\u052f\u1e00-\u1fff]")
_LETTERS_WITHOUT_MARKS: Final = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŋ": "n"}
)
_SILENT: Final = re.compile(
    "[\u0307\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u065f\u0670\u200b-\u200f\u00ad\ufe00-\ufe0f]"
)
"""Vowel points of Hebrew and Arabic, the lengthening stroke, what is left of a Turkish İ, and what nobody sees."""


def of_chunk(text: str, *, language: str, context: str = "") -> Terms:
    """The terms of a chunk with their weights; each word of the `context` (a title, headings) counts as one mention."""
    counts: Counter[int] = Counter()
    for word in _words(text):
        counts.update(_forms(word, language))
    for word in set(_words(context)) if context else ():
        counts.update(_forms(word, language))
    damping = _K1 * (1 - _B + _B * len(text) / _USUAL_CHARACTERS)
    return {term: count * (_K1 + 1) / (count + damping) for term, count in counts.most_common(_MOST_TERMS)}


def of_question(text: str, *, languages: Sequence[str], spoken: str) -> list[QueryTerm]:
    """The terms of a question, as texts in any of these languages would contain them.

    `spoken` is the language of the question itself: its stop words are left out. At most 64 words count.
    """
    shares: dict[int, float] = {}
    of_languages: dict[int, list[str]] = {}
    of_word: dict[int, int] = {}
    for number, word in enumerate(islice(_distinct_words(text, spoken), MOST_WORDS)):
        for language in languages:
            forms = _forms(word, language)
            for place, term in enumerate(forms):
                share = 1.0 if len(forms) == 1 else (1 - _FOLDED_SHARE, _FOLDED_SHARE)[place]
                shares[term] = max(share, shares.get(term, 0.0))
                of_languages.setdefault(term, []).append(language)
                of_word.setdefault(term, number)
    return [
        QueryTerm(term, shares[term], of_word[term], tuple(dict.fromkeys(of_languages[term])))
        for term in shares
    ]


def _distinct_words(text: str, spoken: str) -> Iterator[str]:
    seen = set(stop_words(spoken))
    for word in _words(text, asked=True):
        if word not in seen:
            seen.add(word)
            yield word


@lru_cache(maxsize=32_768)
def _forms(word: str, language: str) -> tuple[int, ...]:
    """The terms of a word: its stem, and the stem of its form without accents where that is another one."""
    if word[0] == _WHOLE:
        return (_term(word),)
    if word in stop_words(language):
        return ()
    exact = _term(stem(word, language))
    if word.isascii() or not _FOLDABLE.search(word):
        return (exact,)
    folded = _term(_without_accents(stem(_without_accents(word), language)))
    return (exact,) if folded == exact else (exact, folded)


def _term(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass")) % (TERM_DIMENSION - 1) + 1


def _without_accents(word: str) -> str:
    decomposed = unicodedata.normalize("NFD", word.translate(_LETTERS_WITHOUT_MARKS))
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def _words(text: str, *, asked: bool = False) -> Iterator[str]:
    """The words of a text in order, folded; those that are taken as they are, without stemming, begin with a mark."""
    text = unicodedata.normalize("NFKC", text)
    for pattern in (_IBAN, _TELEPHONE):
        for match in pattern.finditer(text):
            yield _WHOLE + _SEPARATORS.sub("", match[0]).casefold()
    text = _SILENT.sub("", text.casefold())
    for match in _TOKEN.finditer(text):
        plain = match["plain"]
        if plain is None:
            yield from _pairs(match["unspaced"], asked=asked)
        elif match["more"]:
            yield from _compound(match[0])
        elif plain.isalpha() or not _DIGIT.search(plain):
            yield plain
        else:
            yield from _code(plain)


def _pairs(run: str, *, asked: bool) -> Iterator[str]:
    """Neighbouring characters of a script without spaces. Single ideographs too, for questions of one."""
    for place in range(len(run) - 1):
        yield _WHOLE + run[place : place + 2]
    if len(run) == 1:
        yield _WHOLE + run
    elif not asked:
        for character in _IDEOGRAPH.findall(run):
            yield _WHOLE + character


def _code(word: str) -> Iterator[str]:
    """A word with digits: whole, and letters and digits apart (64gb: 64, gb)."""
    yield _WHOLE + word
    if not word.isdecimal():
        parts = _RUNS.findall(word)
        if 1 < len(parts) <= _MOST_RUNS:
            for part in parts:
                yield _WHOLE + part if part.isdecimal() else part


def _compound(word: str) -> Iterator[str]:
    if _NUMBER.fullmatch(word):
        yield _WHOLE + _plain_number(word)
        return
    parts = _PIECE.findall(word)
    elided = all(joiner in _APOSTROPHES for joiner in _JOINERS.findall(word))
    if not elided:
        whole = "".join(parts)
        yield _WHOLE + whole if _DIGIT.search(whole) else whole
    for part in parts:
        if elided and len(part) <= 2:  # l'eau, d'une, it's, we've
            continue
        yield from _code(part) if _DIGIT.search(part) else (part,)


def _plain_number(number: str) -> str:
    """1,496.5 and 1.496,5 and 1'496.5 as 1496.5."""
    number = _APOSTROPHE.sub("", number)
    if _THOUSANDS.fullmatch(number):
        return number.replace(",", "")
    if _THOUSANDS_BY_POINT.fullmatch(number):
        return number.replace(".", "").replace(",", ".")
    return number.replace(",", ".")
