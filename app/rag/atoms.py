"""A text as atoms that the local model's tokenizer reads one by one, so that the tokens of neighbours add up.

Atoms are words, punctuation marks and ideographs. Between any two of them a chunk may end, at some places better than
at others. Reading is one pass whose time grows with the text alone: 0.1 s a megabyte of English.
"""

import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.rag.cuts import (
    CLOSERS,
    COMBINING,
    IDEOGRAPH,
    JOINERS,
    LONGEST_HEADING,
    MARK,
    TERMINATORS,
    TERMINATORS_WITHOUT_SPACE,
    WORD,
    Cut,
    cut_before,
    joins,
)
from app.rag.local_model import load_tokenizer
from app.rag.words import KnownWords, Numbers

MAX_TOKENS_PER_CHAR: Final = 3
"""The most that one character can become: a Korean syllable is read as its letters."""

# Characters at which the tokenizer (BERT's) always begins anew. Not all space and punctuation is: a form feed is
# dropped and what is on both sides of it joined. A test tries them all.
SPACE: Final = r"\t\n\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
MARKS: Final = (
    r"!-/:-@\[-`{-~\xa1\xab\xb7\xbb\xbf\u2010-\u2027\u2030-\u2043\u2045-\u2051\u3001-\u3003\u3008-\u3011"
    r"\u3014-\u301f\u0589\u060c\u061f\u06d4\u0964\u0965\u104b\u1362\u17d4\uff01-\uff03\uff05-\uff0a"
    r"\uff0c-\uff0f\uff1a\uff1b\uff1f\uff20\uff61-\uff65"
)
IDEOGRAPHS: Final = (
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002b81f"
    r"\U0002b920-\U0002ceaf\U0002f800-\U0002fa1f"
)
# A match takes the space before an atom with it, for good, and at most 100,000 characters of a word: so the search is
# linear and never keeps the GIL for long.
_ATOM: Final = re.compile(
    f"[{SPACE}]*+(?:([^{SPACE}{MARKS}{IDEOGRAPHS}]{{1,100000}}+)|([{MARKS}])|([{IDEOGRAPHS}]))"
)
_SPACES: Final = re.compile(f"[{SPACE}]")

_LONGEST_WORD: Final = 48
_MOST_COUNTED: Final = 32_768
_MOST_COUNTERS: Final = 2
# A letter of English, for which the tokenizer was made, takes 0.23 tokens, and in a text full of names 0.3; of Spanish 0.37, of
# Indonesian 0.4, of Russian and Hindi 1. Multilingual tokenizers need 0.3 in all of them, and that is what counts.
_TOKENS_PER_LETTER: Final = 0.3
_PLAIN_TOKENS_PER_CHAR: Final = 0.26
_SAMPLES: Final = 4
_SAMPLED_CHARS: Final = 500
_LETTERS: Final = re.compile(f"[^{SPACE}{MARKS}\\d]+")
_SYLLABLE: Final = re.compile("[\u3041-\u30ff\uac00-\ud7a3]")
_IDEOGRAPH: Final = re.compile(f"[{IDEOGRAPHS}]")
_UNSPACED: Final = re.compile("[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff]")
"""Of scripts that put no space between words (Thai, Lao, Burmese, Khmer)."""

# Below that the one way to read is as quick as the other.
_WORTH_IT: Final = 400
_WINDOW: Final = 40_000
_LONGEST_WINDOW: Final = 60_000
_LAST_CODE: Final = 0x2FFFF
"""The last character that something is known of: behind it there are no spaces, marks or ideographs."""
_KIND, _MAY_JOIN, _ENDS, _CLOSES, _ENDS_FULL, _ALPHA, _ALNUM, _LOWER = 3, 4, 8, 16, 32, 64, 128, 256
_LOOKED_BACK: Final = 3
"""So many characters before its end tell whether a sentence ends there."""
Codes = NDArray[np.unsignedinteger[Any]]


class Atoms:
    """The atoms of a text in order, in columns: a page of a megabyte may have a million of them."""

    def __init__(self) -> None:
        self.starts = array("q")
        self.ends = array("q")
        self.tokens_before = array("q", [0])
        """The tokens before each atom, and at last those of the whole text."""
        self.cuts = bytearray()
        """What the text can be cut at before each atom, as values of Cut."""
        self.share = 1.0
        """What a token of the tokenizer counts here."""

    def __len__(self) -> int:
        return len(self.starts)

    def weigh(self, share: float) -> None:
        """Let every token count only so much."""
        if share < 1:
            self.share = share
            self.tokens_before = array(
                "q", (np.asarray(self.tokens_before) * share).astype(np.int64).tobytes()
            )

    def append(self, start: int, end: int, *, tokens: int, cut: Cut) -> None:
        self.starts.append(start)
        self.ends.append(end)
        self.tokens_before.append(self.tokens_before[-1] + tokens)
        self.cuts.append(cut)

    def extend(self, starts: Numbers, ends: Numbers, *, tokens: Numbers, cuts: NDArray[np.uint8]) -> None:
        self.starts.frombytes(starts.tobytes())
        self.ends.frombytes(ends.tobytes())
        self.tokens_before.frombytes((self.tokens_before[-1] + np.cumsum(tokens)).tobytes())
        self.cuts.extend(cuts.tobytes())


def read(text: str, *, most_tokens: int) -> Atoms:
    """The atoms of a text; together they have every character that is not space.

    Tokens are counted exactly, but for words longer than 48 characters or `most_tokens`: these become several atoms,
    of which each counts the most that it could have beside any other. No atom has more than `most_tokens`.
    In languages that the tokenizer splinters, all of them count less (`share`).
    """
    counted = _counters.pop() if _counters else KnownWords(_tokens_of)
    reader = _Reader(text, most_tokens, counted)
    for start, end in _windows(text, len(text.rstrip())):
        reader.read(start, end)
    if len(counted) > _MOST_COUNTED:
        counted.clear()
    if len(_counters) < _MOST_COUNTERS:
        _counters.append(counted)
    reader.atoms.weigh(_share_of_tokens(text, tokens=reader.atoms.tokens_before[-1]))
    return reader.atoms


def _share_of_tokens(text: str, *, tokens: int) -> float:
    """What each token of a text that has so many of them counts: less where the tokenizer splinters words, a word at least one.

    So a size is about as much text in every language.
    """
    if tokens <= _PLAIN_TOKENS_PER_CHAR * len(text):
        return 1.0
    step = max(_SAMPLED_CHARS, len(text) // _SAMPLES)
    words = [
        word
        for start in range(0, len(text), step)
        for word in _LETTERS.findall(text, start, start + _SAMPLED_CHARS)
    ]
    pieces = sum(_COUNTED[word] if len(word) <= _LONGEST_WORD else bound_tokens(word) for word in words)
    usual = max(_TOKENS_PER_LETTER * _letters(words), len(words))
    return usual / pieces if pieces > usual else 1.0


def _letters(words: Sequence[str]) -> float:
    """How many letters of English say as much: syllables of kana and Hangul as two, ideographs as so many that each is a token."""
    dense = "".join(word for word in words if not word.isascii())
    return sum(map(len, words)) + len(_SYLLABLE.findall(dense)) + 2.5 * len(_IDEOGRAPH.findall(dense))


def _windows(text: str, end: int) -> Iterator[tuple[int, int]]:
    """Parts to read at once, each up to a space; where none comes for long, all the rest is one."""
    start = 0
    while end - start > _WINDOW:
        space = _SPACES.search(text, start + _WINDOW, min(end, start + _LONGEST_WINDOW))
        if space is None:
            break
        yield start, space.start()
        start = space.start()
    yield start, end


class _Reader:
    """A pass over a text. Both ways to read a part of it give the same; where words are long there is but the slow one."""

    def __init__(self, text: str, most_tokens: int, counted: KnownWords) -> None:
        self.atoms = Atoms()
        self._counted = counted
        self._text = text
        self._most_tokens = most_tokens
        self._end = self._kind = 0
        """Of the atom before."""

    def read(self, start: int, end: int) -> None:
        """At once as much as can be: of a part that can't, its halves."""
        if _WORTH_IT <= end - start <= _LONGEST_WINDOW:
            if self.read_at_once(start, end):
                return
            space = _SPACES.search(self._text, (start + end) // 2, end)
            if space is not None:
                self.read(start, space.start())
                self.read(space.start(), end)
                return
        self.read_one_by_one(start, end)

    def read_one_by_one(self, start: int, end: int) -> None:
        text, most_tokens = self._text, self._most_tokens
        for match in _ATOM.finditer(text, start, end):
            kind = match.lastindex or 0
            start, end = match.span(kind)
            cut = cut_before(text, self._end, start, kinds=(self._kind, kind))
            tokens = 1
            if kind == WORD:
                continued = start == self._end and self._kind == WORD
                is_long = continued or end - start > _LONGEST_WORD
                tokens = most_tokens + 1 if is_long else _COUNTED[text[start:end]]
            if tokens > most_tokens:
                _append_pieces(self.atoms, text, start, end, cut=cut, most_tokens=most_tokens)
            elif tokens or not text[start:end].isspace():
                self.atoms.append(start, end, tokens=tokens, cut=cut)
            self._end, self._kind = end, kind

    def read_at_once(self, start: int, end: int) -> bool:
        """False where that can't be: nothing is read then."""
        part = self._text[start:end]
        codes = codes_of(part)
        if codes.max() > _LAST_CODE:
            return False
        traits = _traits().take(codes)
        kinds = traits & _KIND
        in_word = kinds == WORD
        borders = np.flatnonzero(in_word[1:] != in_word[:-1]) + 1
        if in_word[0]:
            borders = np.concatenate(([0], borders))
        word_starts, word_ends = borders[::2], borders[1::2]
        if (word_ends - word_starts > _LONGEST_WORD).any():
            return False
        counted = self._counted.find(part, codes, word_starts, word_ends)
        if (counted > self._most_tokens).any():
            return False
        begins = kinds > WORD
        begins[word_starts] = True
        starts = np.flatnonzero(begins)
        if not len(starts):
            return True
        is_word = kinds[starts] == WORD
        ends, tokens = starts + 1, np.ones_like(starts)
        ends[is_word], tokens[is_word] = word_ends, counted
        cuts = self._cuts(start, codes, traits, starts, ends)
        self._end, self._kind = start + int(ends[-1]), int(kinds[starts[-1]])
        kept = np.ones(len(starts), np.bool_)
        for place in np.flatnonzero(tokens == 0).tolist():
            kept[place] = not part[starts[place] : ends[place]].isspace()
        self.atoms.extend(starts[kept] + start, ends[kept] + start, tokens=tokens[kept], cuts=cuts[kept])
        return True

    def _cuts(
        self, offset: int, codes: Codes, traits: NDArray[np.uint16], starts: Numbers, ends: Numbers
    ) -> NDArray[np.uint8]:
        """What `cut_before` says of each of these atoms; it is asked where that takes more than a look at its neighbours."""
        starts_after, ends_before = starts[1:], ends[:-1]
        gaps = starts_after - ends_before
        last = traits[ends_before - 1]
        between = codes[ends_before]
        is_line = (gaps == 1) & ((between == ord("\n")) | (between == ord("\r")))
        is_paragraph = (gaps == 2) & (between == ord("\n")) & (codes[starts_after - 1] == ord("\n"))
        found = np.where(is_line, np.uint8(Cut.LINE), np.uint8(Cut.WORD))
        found[is_paragraph] = Cut.PARAGRAPH
        # Where there is space, a sentence may end.
        places = np.flatnonzero((gaps == 1) & ((last & (_ENDS | _CLOSES)) > 0))
        places = places[_end_sentences(codes, traits, ends_before[places])]
        places = places[(traits[starts_after[places]] & _LOWER) == 0]
        found[places] += np.uint8(Cut.SENTENCE - Cut.WORD)  # as a line's end does, with LINE
        # Where there is none, only between ideographs, or after a full stop that needs no space.
        touching = gaps == 0
        kind_before, kind_after = last & _KIND, traits[starts_after] & _KIND
        full = (last & _ENDS_FULL) | ((last & _CLOSES) > 0) * (traits[ends_before - 2] & _ENDS_FULL)
        inside = np.where((kind_before == IDEOGRAPH) | (kind_after == IDEOGRAPH), Cut.WORD, Cut.INSIDE_WORD)
        inside[(kind_before == MARK) & (full > 0)] = Cut.SENTENCE
        inside[kind_after == MARK] = Cut.INSIDE_WORD
        found[touching] = inside[touching]
        joins = (traits[starts_after] | traits[starts_after - 1]) & _MAY_JOIN
        asked = (
            ((gaps > 1) & ~is_paragraph)
            | (touching & (kind_after != MARK) & (joins > 0))
            | (ends_before < _LOOKED_BACK)
        )
        if self._may_have_headings(offset, offset + len(codes)):
            asked |= is_line | is_paragraph
        cuts = np.concatenate((np.zeros(1, np.uint8), found))
        self._ask(offset, np.flatnonzero(np.concatenate(([True], asked))), traits, starts, ends, cuts)
        return cuts

    def _ask(
        self,
        offset: int,
        asked: Numbers,
        traits: NDArray[np.uint16],
        starts: Numbers,
        ends: Numbers,
        cuts: NDArray[np.uint8],
    ) -> None:
        places = (starts[asked] + offset).tolist()
        ends_before = (ends[asked - 1] + offset).tolist()
        kinds_before = (traits[ends[asked - 1] - 1] & _KIND).tolist()
        kinds_after = (traits[starts[asked]] & _KIND).tolist()
        ends_before[0], kinds_before[0] = self._end, self._kind
        cuts[asked] = [
            cut_before(self._text, end, start, kinds=(before, after))
            for end, start, before, after in zip(ends_before, places, kinds_before, kinds_after, strict=True)
        ]

    def _may_have_headings(self, start: int, end: int) -> bool:
        return self._text.startswith("#") or self._text.find("#", max(0, start - LONGEST_HEADING), end) >= 0


def codes_of(part: str) -> Codes:
    """The characters of a text by number, with a space behind them."""
    if part.isascii():
        return np.frombuffer(f"{part} ".encode("ascii"), np.uint8)
    return np.frombuffer(f"{part} ".encode("utf-32-le", "surrogatepass"), np.uint32)


def _end_sentences(codes: Codes, traits: NDArray[np.uint16], ends: Numbers) -> NDArray[np.bool_]:
    """As `cuts` says it, of ends that have three characters before them."""
    last, before = traits[ends - 1], traits[ends - 2]
    closed = ((last & _CLOSES) > 0) & ((before & _ENDS) > 0)
    is_initial = (
        (codes[ends - 1] == ord("."))
        & ((before & _ALPHA) > 0)
        & ((traits[ends - _LOOKED_BACK] & _ALNUM) == 0)
    )
    ended: NDArray[np.bool_] = closed | (((last & _ENDS) > 0) & ~is_initial)
    return ended


@cache
def _traits() -> NDArray[np.uint16]:
    """What is to be known of each character: its kind, whether a sentence may end with it, whether it may join its neighbours."""
    codes = np.arange(_LAST_CODE + 1, dtype=np.uint32)
    characters = codes.view("U1")
    traits = np.full(len(codes), WORD, np.uint16)
    text = codes.tobytes().decode("utf-32-le", "surrogatepass")
    for kind, named in ((0, SPACE), (MARK, MARKS), (IDEOGRAPH, IDEOGRAPHS)):
        for match in re.finditer(f"[{named}]+", text):
            traits[match.start() : match.end()] = kind
    for trait, having in ((_ENDS, TERMINATORS), (_CLOSES, CLOSERS), (_ENDS_FULL, TERMINATORS_WITHOUT_SPACE)):
        traits[list(map(ord, having))] |= trait
    traits[np.strings.isalpha(characters)] |= _ALPHA
    traits[np.strings.isalnum(characters)] |= _ALNUM
    traits[np.strings.islower(characters)] |= _LOWER
    traits[[*COMBINING, *map(ord, JOINERS)]] |= _MAY_JOIN
    return traits


def _tokens_of(word: str) -> int:
    if _UNSPACED.search(word):  # a whole sentence perhaps, and one unknown word to the tokenizer
        return bound_tokens(word)
    tokenizer = load_tokenizer()
    # A word that the tokenizer knows is found in a tenth of the time.
    if word.isascii() and word.isalnum() and tokenizer.token_to_id(word.lower()) is not None:
        return 1
    return len(tokenizer.encode(word, add_special_tokens=False))


class _Counted(dict[str, int]):
    """The tokens of words, remembered, for words that are read one by one."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _MOST_COUNTED:
            self.clear()
        tokens = self[word] = _tokens_of(word)
        return tokens


_COUNTED: Final = _Counted()
_counters: list[KnownWords] = []
"""Those that nobody uses now: two threads never have the same."""


def bound_tokens(piece: str) -> int:
    """The most tokens of a piece of a word, whatever is next to it: one for each of its decomposed characters."""
    return len(piece) if piece.isascii() else len(unicodedata.normalize("NFD", piece))


def _append_pieces(atoms: Atoms, text: str, start: int, end: int, *, cut: Cut, most_tokens: int) -> None:
    size = min(_LONGEST_WORD, most_tokens // MAX_TOKENS_PER_CHAR)
    for piece_start, piece_end in _pieces(text, start, end, size=size):
        piece = text[piece_start:piece_end]
        if not piece.isspace():
            atoms.append(piece_start, piece_end, tokens=min(most_tokens, bound_tokens(piece)), cut=cut)
            cut = Cut.INSIDE_WORD


def _pieces(text: str, start: int, end: int, *, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most `size` that part no characters which are shown as one, unless too many of those are."""
    while end - start > size:
        cut = start + size
        while cut > start and joins(text, cut):
            cut -= 1
        if cut == start:
            cut = start + size
        yield start, cut
        start = cut
    yield start, end
