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

import numpy as np
from numpy.typing import NDArray

from app.core.retrieval import TERM_DIMENSION, QueryTerm, WeighedTerms
from app.rag.cuts import COMBINING
from app.rag.languages import stem, stop_words

_K1: Final = 1.2
_B: Final = 0.75
_USUAL_CHARACTERS: Final = 700
_MOST_TERMS: Final = 15_000
"""A sparse vector of pgvector has at most 16,000."""
MOST_WORDS: Final = 64
_MOST_RUNS: Final = 4
WHOLE: Final = "\0"
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


MARKS: Final = _ranges(chr(code) for code in COMBINING if code < 0x10000)
RARE_MARKS: Final = _ranges(chr(code) for code in COMBINING if 0x10000 <= code < 0x1E000)
# Scripts that put no space between words: Thai, Lao, Burmese, Khmer, Tai, Javanese, kana, bopomofo, ideographs.
UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf\ua980-\ua9df"
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u30ff\u3105-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
RARE_UNSPACED: Final = "\U0001b000-\U0001b16f\U00020000-\U0003fffd"
_IDEOGRAPH: Final = re.compile("[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd]")


def _word(unspaced: str, marks: str) -> str:
    return f"(?:(?![{unspaced}])[^\\W_]|[{marks}\u200c\u200d])+"


def _token(unspaced: str, marks: str) -> re.Pattern[str]:
    """A compound is of words and single joiners; a number may have them too. Bounded, so that no input is quadratic."""
    word = _word(unspaced, marks)
    return re.compile(
        f"(?P<unspaced>[{unspaced}]+)|(?P<plain>{word})(?P<more>(?:[-./:_@,'’+&#\u2010\u2011]{word}){{1,40}})?"
    )


_WORD: Final = _word(UNSPACED + RARE_UNSPACED, MARKS + RARE_MARKS)
_TOKEN: Final = _token(UNSPACED + RARE_UNSPACED, MARKS + RARE_MARKS)
# The same for texts of usual characters, whose sets are looked up in one step, and for those without a character of either.
_USUAL_TOKEN: Final = _token(UNSPACED, MARKS)
_PLAIN_TOKEN: Final = re.compile(r"[^\W_]+(?:[-./:_@,'’+&#\u2010\u2011][^\W_]+){0,40}")
_ASCII_TOKEN: Final = re.compile(r"[a-z0-9]+(?:[-./:_@,'+&#][a-z0-9]+){0,40}")
_UNSPACED_OR_MARK: Final = re.compile(f"[{UNSPACED}{MARKS}\u200c\u200d]")
_RARE: Final = re.compile("[\U00010000-\U0010ffff]")
_PIECE: Final = re.compile(_WORD)
_DIGIT: Final = re.compile(r"\d")
_NUMBER: Final = re.compile(r"\d+(?:[.,'’]\d+)+")
_THOUSANDS: Final = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_THOUSANDS_BY_POINT: Final = re.compile(r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}")
_APOSTROPHES: Final = "'’"
_APOSTROPHE: Final = re.compile(f"[{_APOSTROPHES}]")
JOINERS: Final = re.compile("[-./:_@,'’+&#\u2010\u2011]")
_RUNS: Final = re.compile(r"\d+|\D+")
_IBAN: Final = re.compile(r"\b[A-Z]{2}\d{2}(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?\b")
_TELEPHONE: Final = re.compile(r"(?<![\w.,-])\+?\d{1,4}(?:[ -]\(?\d{2,5}\)?){2,5}(?![\w-]|[.,]\d)")
# What those two would be found by, which most texts have nothing of.
_MAY_BE_IBAN: Final = re.compile(r"\d [A-Z0-9]{4}")
_MAY_BE_TELEPHONE: Final = re.compile(r"\d[ -]\(?\d\d")
_SEPARATORS: Final = re.compile(r"[^\w]|_")
_FOLDABLE: Final = re.compile(r"[a-z\u00df-\u024f\u0370-\u052f\u1e00-\u1fff]")
_LETTERS_WITHOUT_MARKS: Final = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŋ": "n"}
)
SILENT: Final = re.compile(
    "[\u0307\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u065f\u0670\u200b-\u200f\u00ad\ufe00-\ufe0f]"
)
"""Vowel points of Hebrew and Arabic, the lengthening stroke, what is left of a Turkish İ, and what nobody sees."""


def of_chunk(text: str, *, language: str, context: str = "") -> Terms:
    """The terms of a chunk with their weights; each word of the `context` (a title, headings) counts as one mention."""
    mentions = Counter(term for token in tokens(text) for term in of_token(token, language))
    mentions.update(of_context(context, language))
    numbers = np.array(sorted(mentions), np.int64)
    counts = np.array([mentions[number] for number in numbers.tolist()], np.int64)
    return most(numbers.astype(np.int32), weights(counts, np.full(len(counts), len(text)))).as_mapping()


def of_context(context: str, language: str) -> list[int]:
    """The terms of the different words of a context."""
    return [term for word in set(_words(context)) for term in _forms(word, language)]


def of_token(token: str, language: str) -> tuple[int, ...]:
    """The terms of all words of a token, in their order."""
    return tuple(term for word in _words_of(token) for term in _forms(word, language))


def weights(counts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Of terms, by how often a chunk mentions each, and how many characters it has."""
    dampings = _K1 * (1 - _B + _B * sizes.astype(np.float64) / _USUAL_CHARACTERS)
    return (counts * (_K1 + 1) / (counts + dampings)).astype(np.float32)


def most(numbers: NDArray[np.int32], weights: NDArray[np.float32]) -> WeighedTerms:
    """The terms of a chunk, of very many those that weigh most."""
    if len(numbers) > _MOST_TERMS:
        kept = np.sort(np.argsort(-weights, kind="stable")[:_MOST_TERMS])
        numbers, weights = numbers[kept], weights[kept]
    return WeighedTerms(numbers, weights)


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


@lru_cache(maxsize=8_192)
def _forms(word: str, language: str) -> tuple[int, ...]:
    """The terms of a word: its stem, and the stem of its form without accents where that is another one."""
    if word[0] == WHOLE:
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
    for token in tokens(text):
        yield from _words_of(token, asked=asked)


def tokens(text: str) -> list[str]:
    """What a text is made of, folded: what is one in spite of its spaces first, with a mark, then the rest in order."""
    return wholes(text) + folded(text)


def folded(text: str) -> list[str]:
    """The tokens without a space, in order."""
    if text.isascii():
        return _ASCII_TOKEN.findall(text.lower())
    text = SILENT.sub("", unicodedata.normalize("NFKC", text).casefold())
    if _RARE.search(text):
        return [match[0] for match in _TOKEN.finditer(text)]
    if _UNSPACED_OR_MARK.search(text):
        return [match[0] for match in _USUAL_TOKEN.finditer(text)]
    return _PLAIN_TOKEN.findall(text)


def wholes(text: str) -> list[str]:
    """What is one in spite of its spaces: IBANs and telephone numbers."""
    text = unicodedata.normalize("NFKC", text)
    found: list[str] = []
    for hint, pattern in ((_MAY_BE_IBAN, _IBAN), (_MAY_BE_TELEPHONE, _TELEPHONE)):
        if hint.search(text):
            found += [WHOLE + _SEPARATORS.sub("", match[0]).casefold() for match in pattern.finditer(text)]
    return found


def _words_of(token: str, *, asked: bool = False) -> Iterator[str]:
    if token.isascii() and token.isalpha():
        yield token
        return
    match = _TOKEN.fullmatch(token)
    if match is None:
        yield token
    elif (plain := match["plain"]) is None:
        yield from _pairs(token, asked=asked)
    elif match["more"]:
        yield from _compound(token)
    elif plain.isalpha() or not _DIGIT.search(plain):
        yield plain
    else:
        yield from _code(plain)


def _pairs(run: str, *, asked: bool) -> Iterator[str]:
    """Neighbouring characters of a script without spaces. Single ideographs too, for questions of one."""
    for place in range(len(run) - 1):
        yield WHOLE + run[place : place + 2]
    if len(run) == 1:
        yield WHOLE + run
    elif not asked:
        for character in _IDEOGRAPH.findall(run):
            yield WHOLE + character


def _code(word: str) -> Iterator[str]:
    """A word with digits: whole, and letters and digits apart (64gb: 64, gb)."""
    yield WHOLE + word
    if not word.isdecimal():
        parts = _RUNS.findall(word)
        if 1 < len(parts) <= _MOST_RUNS:
            for part in parts:
                yield WHOLE + part if part.isdecimal() else part


def _compound(word: str) -> Iterator[str]:
    if _NUMBER.fullmatch(word):
        yield WHOLE + _plain_number(word)
        return
    parts = _PIECE.findall(word)
    elided = all(joiner in _APOSTROPHES for joiner in JOINERS.findall(word))
    if not elided:
        whole = "".join(parts)
        yield WHOLE + whole if _DIGIT.search(whole) else whole
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
