"""The terms of many chunks at once: what `terms.of_chunk` finds of each of them, in a third of the time.

All chunks are one row of characters, where steps of NumPy find the runs that are tokens. A run is looked up once, in a
vocabulary that knows its token by a number and the token's terms in a language; the rest is arithmetic with numbers. What a run
becomes depends on nothing but itself: where that may be otherwise, as before a mark without a letter, the chunk is read by itself.
"""

import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.retrieval import WeighedTerms
from app.rag import languages, terms
from app.rag.atoms import Codes, codes_of
from app.rag.words import KnownWords, Numbers

_LETTER, _JOINER, _FOLLOWER, _UNSPACED, _UNSPACED_MARK, _ODD, _BREAK, _KIND = 1, 2, 3, 4, 5, 6, 7, 7
_DIGIT, _GAP, _AFTER_GAP, _SEVERAL = 8, 16, 32, 64
"""What a telephone number or an IBAN has one after the other, and whether a character becomes several."""
_LAST_CODE: Final = 0x10FFFF

_TERM_BITS: Final = 30
_CHARACTERS_AT_ONCE: Final = 100_000
_MOST_TOKENS: Final = 32_768
_MOST_CHARACTERS: Final = 1_000_000
_MOST_LANGUAGES: Final = 8
_MOST_KEPT: Final = 2


class Mentions:
    """The tokens of texts by their number in a vocabulary: those of a text from its border to the next."""

    def __init__(self, tokens: Numbers, borders: Numbers) -> None:
        self.tokens = tokens
        self.borders = borders

    @property
    def counts(self) -> Numbers:
        return np.diff(self.borders)


class Vocabulary:
    """The tokens that were met, by number, and their terms in the languages they were met in. For one thread at a time."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self._numbers: dict[str, int] = {}
        self._runs = KnownWords(self._learn)
        self._tables: dict[str, _Table] = {}
        self._characters = 0

    @property
    def is_full(self) -> bool:
        return len(self._runs) > _MOST_TOKENS or self._characters > _MOST_CHARACTERS

    def number_of(self, token: str) -> int:
        number = self._numbers.get(token)
        if number is None:
            number = self._numbers[token] = len(self.tokens)
            self.tokens.append(token)
            self._characters += len(token)
        return number

    def _learn(self, run: str) -> int:
        """The number of the token that a run is; below zero where it is not exactly one."""
        found = terms.folded(run)
        return self.number_of(found[0]) if len(found) == 1 else -1

    def read(self, texts: Sequence[str]) -> Mentions:
        """The tokens of each text."""
        found: list[Numbers] = []
        counts: list[Numbers] = []
        for some in _parts(texts):
            mentions = self._read_some(some)
            found.append(mentions.tokens)
            counts.append(mentions.counts)
        return Mentions(_joined(found), np.concatenate(([0], np.cumsum(_joined(counts)))))

    def own_words(self, mentions: Mentions, language: str) -> Numbers:
        """How many of each text's tokens are stop words of this language alone."""
        before = np.concatenate(([0], np.cumsum(self._table(language).are_own(mentions.tokens))))
        return np.diff(before[mentions.borders])

    def weigh(
        self,
        mentions: Mentions,
        *,
        sizes: Sequence[int],
        spoken: Sequence[str],
        contexts: Sequence[str],
    ) -> list[WeighedTerms]:
        """The terms of each text, by its language, how many characters it has, and its context."""
        count = len(sizes)
        texts, numbers = self._mentioned(mentions, spoken)
        more_texts, more_numbers = _of_contexts(contexts, spoken)
        # The text above, the term below: sorted, the mentions of a term in a text are neighbours.
        keys = np.concatenate(((texts << _TERM_BITS) | numbers, (more_texts << _TERM_BITS) | more_numbers))
        keys.sort()
        firsts = np.flatnonzero(np.diff(keys, prepend=-1))
        counts = np.diff(firsts, append=len(keys))
        of_text = keys[firsts] >> _TERM_BITS
        found = (keys[firsts] & ((1 << _TERM_BITS) - 1)).astype(np.int32)
        weights = terms.weights(counts, np.asarray(sizes, np.int64)[of_text])
        borders = np.searchsorted(of_text, np.arange(count + 1)).tolist()
        return [terms.most(found[start:end], weights[start:end]) for start, end in pairwise(borders)]

    def _mentioned(self, mentions: Mentions, spoken: Sequence[str]) -> tuple[Numbers, Numbers]:
        """Of each mention of a term its text and its number."""
        texts = np.repeat(np.arange(len(spoken)), mentions.counts)
        different = sorted(set(spoken))
        if len(different) == 1:
            return self._table(different[0]).mentions(texts, mentions.tokens)
        places = np.array(list(map(different.index, spoken)), np.int64)[texts]
        of_each = [
            self._table(language).mentions(texts[places == place], mentions.tokens[places == place])
            for place, language in enumerate(different)
        ]
        return _joined([texts for texts, _ in of_each]), _joined([numbers for _, numbers in of_each])

    def _table(self, language: str) -> "_Table":
        if language not in self._tables:
            if len(self._tables) >= _MOST_LANGUAGES:
                self._tables.clear()
            self._tables[language] = _Table(self, language)
        return self._tables[language]

    def _read_some(self, texts: Sequence[str]) -> Mentions:
        joined = "\0".join(texts)
        codes = codes_of(joined)
        traits = _traits_of(codes)
        begins = np.cumsum(np.fromiter((len(text) + 1 for text in texts), np.int64, len(texts)))
        begins = np.concatenate(([0], begins[:-1]))
        starts, ends, odd = _runs(traits & _KIND)
        found = self._runs.find(joined, codes, starts, ends)
        borders = np.append(np.searchsorted(starts, begins), len(starts))

        def places(characters: Numbers) -> set[int]:
            return set((np.searchsorted(begins, characters, "right") - 1).tolist())

        alone = places(np.concatenate((odd, starts[found < 0])))
        with_wholes = places(_may_be_wholes(traits)) - alone
        parts: list[Numbers] = []
        counts = np.diff(borders)
        done = 0
        for place in sorted(alone | with_wholes):
            more = terms.tokens(texts[place]) if place in alone else terms.wholes(texts[place])
            own = found[:0] if place in alone else found[borders[place] : borders[place + 1]]
            parts += [found[borders[done] : borders[place]], own]
            parts.append(np.fromiter(map(self.number_of, more), np.int64, len(more)))
            counts[place] = len(own) + len(more)
            done = place + 1
        parts.append(found[borders[done] :])
        return Mentions(_joined(parts), np.concatenate(([0], np.cumsum(counts))))


class _Table:
    """The terms of tokens in one language: those of a token are neighbours."""

    def __init__(self, vocabulary: Vocabulary, language: str) -> None:
        self._vocabulary, self._language = vocabulary, language
        self._terms = array("i")
        self._own: NDArray[np.int64] = np.empty(0, np.int64)
        self._firsts: NDArray[np.int64] = np.empty(0, np.int64)
        self._counts: NDArray[np.int64] = np.empty(0, np.int64)

    def are_own(self, tokens: Numbers) -> Numbers:
        """1 for each token that is a stop word of no other language."""
        if new := self._vocabulary.tokens[len(self._own) :]:
            own = map(languages.own_stop_words(self._language).__contains__, new)
            self._own = np.append(self._own, np.fromiter(own, np.int64, len(new)))
        return self._own[tokens]

    def mentions(self, texts: Numbers, tokens: Numbers) -> tuple[Numbers, Numbers]:
        """Of each mention of a term its text and its number, by the texts and numbers of tokens."""
        self._learn(tokens)
        counts = self._counts[tokens]
        before = np.cumsum(counts) - counts
        places = np.repeat(self._firsts[tokens] - before, counts)
        places += np.arange(len(places))
        known = np.frombuffer(self._terms, np.int32) if self._terms else np.empty(0, np.int32)
        return np.repeat(texts, counts), known[places].astype(np.int64)

    def _learn(self, tokens: Numbers) -> None:
        if not len(tokens):
            return
        if (missing := int(tokens.max()) + 1 - len(self._counts)) > 0:
            room = missing + len(self._counts)
            self._counts = np.append(self._counts, np.full(room, -1))
            self._firsts = np.append(self._firsts, np.zeros(room, np.int64))
        unknown = np.unique(tokens[self._counts[tokens] < 0]).tolist()
        if not unknown:
            return
        tokens_of = self._vocabulary.tokens
        for number in unknown:
            found = terms.of_token(tokens_of[number], self._language)
            self._firsts[number], self._counts[number] = len(self._terms), len(found)
            self._terms.extend(found)


_vocabularies: list[Vocabulary] = []


@contextmanager
def vocabulary() -> Iterator[Vocabulary]:
    """One that nobody else uses meanwhile, with what it has learned before where one is free."""
    borrowed = _vocabularies.pop() if _vocabularies else Vocabulary()
    yield borrowed
    if not borrowed.is_full and len(_vocabularies) < _MOST_KEPT:
        _vocabularies.append(borrowed)


def _runs(kinds: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Where the runs begin, where they end, and the characters whose texts have to be read by themselves."""
    is_odd = kinds == _ODD
    in_word = kinds == _LETTER
    follows = kinds == _FOLLOWER
    if follows.any():
        in_word |= follows
        is_odd |= follows & ~np.concatenate(([False], in_word[:-1]))
    joins = np.flatnonzero(kinds[1:-1] == _JOINER) + 1
    in_run = in_word.copy()
    in_run[joins[in_word[joins - 1] & in_word[joins + 1]]] = True
    is_unspaced = (kinds == _UNSPACED) | (marks := kinds == _UNSPACED_MARK)
    if marks.any():
        before = np.concatenate(([_BREAK], kinds[:-1]))
        is_odd |= marks & ((before == _LETTER) | (before == _FOLLOWER) | (before == _JOINER))
    of_run = in_run.view(np.uint8) | (is_unspaced.view(np.uint8) << 1)
    borders = np.flatnonzero(of_run[1:] != of_run[:-1]) + 1
    if of_run[0]:
        borders = np.concatenate(([0], borders))
    odd = np.flatnonzero(is_odd)
    after = of_run[borders] > 0
    if not after[1::2].any():
        return borders[::2], borders[1::2], odd
    # Words touch others of a script without spaces.
    return borders[after], np.append(borders[1:], len(of_run))[after], odd


def _may_be_wholes(traits: NDArray[np.uint8]) -> Numbers:
    """The characters at which something may be that is one in spite of its spaces: a digit, a gap, and two of what may follow."""
    places = np.flatnonzero((traits[:-3] & _DIGIT > 0) & (traits[1:-2] & _GAP > 0))
    after, then = traits[places + 2], traits[places + 3]
    return places[(after & _AFTER_GAP > 0) & ((then & _AFTER_GAP > 0) | (after & _SEVERAL > 0))]


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start = characters = 0
    for place, text in enumerate(texts):
        if place > start and characters + len(text) > _CHARACTERS_AT_ONCE:
            yield texts[start:place]
            start, characters = place, 0
        characters += len(text)
    yield texts[start:]


def _of_contexts(contexts: Sequence[str], spoken: Sequence[str]) -> tuple[Numbers, Numbers]:
    known: dict[tuple[str, str], list[int]] = {}
    texts: list[int] = []
    numbers: list[int] = []
    for place, key in enumerate(zip(contexts, spoken, strict=True)):
        if not key[0]:
            continue
        if key not in known:
            known[key] = terms.of_context(*key)
        numbers += known[key]
        texts += [place] * len(known[key])
    return np.array(texts, np.int64), np.array(numbers, np.int64)


def _joined(parts: Sequence[Numbers]) -> Numbers:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _traits_of(codes: Codes) -> NDArray[np.uint8]:
    table = _traits()
    found = table.take(codes)
    if not found.all():
        for code in np.unique(codes[found == 0]).tolist():
            table[code] = _trait_of(chr(code))
        found = table.take(codes)
    return found


@cache
def _traits() -> NDArray[np.uint8]:
    """Of every character; none is known yet. Pages that nothing was written to take no memory."""
    return np.zeros(_LAST_CODE + 1, np.uint8)


def _trait_of(character: str) -> int:
    plain = unicodedata.normalize("NFKC", character)
    trait = _kind_of(terms.SILENT.sub("", plain.casefold()))
    if any(map(str.isdecimal, plain)):
        trait |= _DIGIT | _AFTER_GAP
    if " " in plain or "-" in plain:
        trait |= _GAP
    if any("A" <= each <= "Z" or each == "(" for each in plain):
        trait |= _AFTER_GAP
    if len(plain) > 1:
        trait |= _SEVERAL
    return trait


def _kind_of(folded: str) -> int:
    is_unspaced, is_mark, is_word, has_word = _patterns()
    if is_unspaced.fullmatch(folded):
        return _UNSPACED_MARK if is_mark.match(folded) else _UNSPACED
    if not folded or is_mark.fullmatch(folded):
        return _FOLLOWER
    if is_word.fullmatch(folded):
        return _LETTER
    if terms.JOINERS.fullmatch(folded):
        return _JOINER
    return _ODD if has_word.search(folded) else _BREAK


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    """Late, for they take memory: a script without spaces, marks, a word, and whatever is none of that but has some of it."""
    unspaced, marks = terms.UNSPACED + terms.RARE_UNSPACED, terms.MARKS + terms.RARE_MARKS
    return (
        re.compile(f"[{unspaced}]+"),
        re.compile(f"[{marks}]+"),
        re.compile(rf"(?:(?![{unspaced}])[^\W_])(?:(?![{unspaced}])[^\W_]|[{marks}])*"),
        re.compile(rf"[^\W_]|[{unspaced}{marks}]"),
    )
