"""Texts as weighed terms: what the lexical leg of the search stores of a chunk and asks of a question.

A term is a number, the hash of a word's stem. Words are folded (case, width, accents) and stemmed by the text's
language; scripts without spaces become pairs of characters; numbers and codes stay whole. The weight of a term in
a chunk is the part of BM25 that knows nothing of the other chunks: the frequency, damped by the chunk's length. Its
average is a constant, since chunks are cut to one size: measured, that ranks no worse than the average of the corpus.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice, pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.retrieval import TERM_DIMENSION, QueryTerm, WeighedTerms
from app.rag.languages import stem, stop_words

_K1: Final = 1.2
_B: Final = 0.75
_USUAL_CHARACTERS: Final = 700
_MOST_TERMS: Final = 15_000
"""A sparse vector of pgvector has at most 16,000."""
MOST_WORDS: Final = 64
_MOST_RUNS: Final = 4
_WHOLE: Final = "\0"
_USUAL_TOKEN_CHARACTERS: Final = 24
_WEIGHED_AT_ONCE: Final = 500
_MOST_KNOWN: Final = 32_768
_TERM_BITS: Final = 30
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


_MARKS: Final = _ranges(c for c in map(chr, range(0x300, 0x10000)) if unicodedata.category(c)[0] == "M")
_RARE_MARKS: Final = _ranges(
    c for c in map(chr, range(0x10000, 0x1E000)) if unicodedata.category(c)[0] == "M"
)
# Scripts that put no space between words: Thai, Lao, Burmese, Khmer, Tai, Javanese, kana, bopomofo, ideographs.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf\ua980-\ua9df"
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u30ff\u3105-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_RARE_UNSPACED: Final = "\U0001b000-\U0001b16f\U00020000-\U0003fffd"
_IDEOGRAPH: Final = re.compile("[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd]")


def _word(unspaced: str, marks: str) -> str:
    return f"(?:(?![{unspaced}])[^\\W_]|[{marks}\u200c\u200d])+"


def _token(unspaced: str, marks: str) -> re.Pattern[str]:
    """A compound is of words and single joiners; a number may have them too. Bounded, so that no input is quadratic."""
    word = _word(unspaced, marks)
    return re.compile(
        f"(?P<unspaced>[{unspaced}]+)|(?P<plain>{word})(?P<more>(?:[-./:_@,'’+&#\u2010\u2011]{word}){{1,40}})?"
    )


_WORD: Final = _word(_UNSPACED + _RARE_UNSPACED, _MARKS + _RARE_MARKS)
_TOKEN: Final = _token(_UNSPACED + _RARE_UNSPACED, _MARKS + _RARE_MARKS)
# The same for texts of usual characters, whose sets are looked up in one step, and for those without a character of either.
_USUAL_TOKEN: Final = _token(_UNSPACED, _MARKS)
_PLAIN_TOKEN: Final = re.compile(r"[^\W_]+(?:[-./:_@,'’+&#\u2010\u2011][^\W_]+){0,40}")
_ASCII_TOKEN: Final = re.compile(r"[a-z0-9]+(?:[-./:_@,'+&#][a-z0-9]+){0,40}")
_UNSPACED_OR_MARK: Final = re.compile(f"[{_UNSPACED}{_MARKS}\u200c\u200d]")
_RARE: Final = re.compile("[\U00010000-\U0010ffff]")
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
_TELEPHONE: Final = re.compile(r"(?<![\w.,-])\+?\d{1,4}(?:[ -]\(?\d{2,5}\)?){2,5}(?![\w-]|[.,]\d)")
# What those two would be found by, which most texts have nothing of.
_MAY_BE_IBAN: Final = re.compile(r"\d [A-Z0-9]{4}")
_MAY_BE_TELEPHONE: Final = re.compile(r"\d[ -]\(?\d\d")
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
    return weigh([tokens(text)], sizes=[len(text)], languages=[language], contexts=[context])[0].as_mapping()


def weigh(
    tokenized: Sequence[Sequence[str]],
    *,
    sizes: Sequence[int],
    languages: Sequence[str],
    contexts: Sequence[str],
) -> list[WeighedTerms]:
    """The same of many chunks, by their `tokens` and how many characters they have."""
    found: list[WeighedTerms] = []
    for start in range(0, len(tokenized), _WEIGHED_AT_ONCE):
        part = slice(start, start + _WEIGHED_AT_ONCE)
        found += _weigh_some(tokenized[part], sizes[part], languages[part], contexts[part])
    return found


def _weigh_some(
    tokenized: Sequence[Sequence[str]],
    sizes: Sequence[int],
    languages: Sequence[str],
    contexts: Sequence[str],
) -> list[WeighedTerms]:
    mentioned: list[Sequence[int]] = []
    mentions: list[int] = []
    for chunk, language, context in zip(tokenized, languages, contexts, strict=True):
        of_chunk: list[Sequence[int]] = list(map(_known(language).__getitem__, chunk))
        if context:
            of_chunk += [_forms(word, language) for word in set(_words(context))]
        mentioned += of_chunk
        mentions.append(sum(map(len, of_chunk)))
    # The chunk above, the term below: sorted, the mentions of a term in a chunk are neighbours.
    terms = np.fromiter(chain.from_iterable(mentioned), np.int64, sum(mentions))
    keys = np.sort((np.repeat(np.arange(len(tokenized)), mentions) << _TERM_BITS) | terms)
    firsts = np.flatnonzero(np.diff(keys, prepend=-1))
    counts = np.diff(firsts, append=len(keys))
    chunks, numbers = keys[firsts] >> _TERM_BITS, (keys[firsts] & ((1 << _TERM_BITS) - 1)).astype(np.int32)
    dampings = _K1 * (1 - _B + _B * np.asarray(sizes, np.float64) / _USUAL_CHARACTERS)
    weights = (counts * (_K1 + 1) / (counts + dampings[chunks])).astype(np.float32)
    borders = np.searchsorted(chunks, np.arange(len(tokenized) + 1)).tolist()
    return [_most(numbers[start:end], weights[start:end]) for start, end in pairwise(borders)]


def _most(numbers: NDArray[np.int32], weights: NDArray[np.float32]) -> WeighedTerms:
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


class _Known(dict[str, tuple[int, ...]]):
    """The terms of all words of a token of one language, in their order; those of usual tokens are remembered.

    Asked for nearly every token of a document: a cache with a key of two would take three times as long.
    """

    def __init__(self, language: str) -> None:
        self._language = language

    def __missing__(self, token: str) -> tuple[int, ...]:
        language = self._language
        found = tuple(term for word in _words_of(token) for term in _forms(word, language))
        if len(token) <= _USUAL_TOKEN_CHARACTERS:
            if len(self) >= _MOST_KNOWN:
                self.clear()
            self[token] = found
        return found


@lru_cache(maxsize=4)
def _known(language: str) -> _Known:
    return _Known(language)


@lru_cache(maxsize=8_192)
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
    for token in tokens(text):
        yield from _words_of(token, asked=asked)


def tokens(text: str) -> list[str]:
    """What a text is made of, folded: what is one in spite of its spaces first, with a mark, then the rest in order."""
    is_ascii = text.isascii()
    if not is_ascii:
        text = unicodedata.normalize("NFKC", text)
    found: list[str] = []
    for hint, pattern in ((_MAY_BE_IBAN, _IBAN), (_MAY_BE_TELEPHONE, _TELEPHONE)):
        if hint.search(text):
            found += [_WHOLE + _SEPARATORS.sub("", match[0]).casefold() for match in pattern.finditer(text)]
    if is_ascii:
        return found + _ASCII_TOKEN.findall(text.lower())
    text = _SILENT.sub("", text.casefold())
    if _RARE.search(text):
        return found + [match[0] for match in _TOKEN.finditer(text)]
    if _UNSPACED_OR_MARK.search(text):
        return found + [match[0] for match in _USUAL_TOKEN.finditer(text)]
    return found + _PLAIN_TOKEN.findall(text)


def _words_of(token: str, *, asked: bool = False) -> Iterator[str]:
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
