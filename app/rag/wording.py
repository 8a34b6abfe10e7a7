"""A statement laid beside the sentence that it was taken from: what it says in the place of which words.

Two texts of mostly the same words in the same order differ in places. Where the one has words of its own in the place of other
words of the source, it says something else; that the source has them elsewhere does not mend it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

BREAK: Final = ","
"""Stands where a clause ends."""
_MOST_TOKENS: Final = 250
_EDGE: Final = 3
"""Beyond its last common word a sentence may be about something else: so many words more than the statement's are compared."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where they differ: `own` of the statement stand where the source has `theirs`. An inner one has common words on both sides."""

    own: Sequence[str]
    theirs: Sequence[str]
    is_inner: bool

    @property
    def is_aside(self) -> bool:
        """Whether a whole clause of the source is just left out."""
        return not self.own and self.theirs[:1] == [BREAK] == self.theirs[-1:]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`common` are the words that both have in the same order."""

    common: Sequence[str]
    places: Sequence[Place]


def compare(statement: Sequence[str], source: Sequence[str], tells: Callable[[str], bool]) -> Comparison:
    """Of two texts as their (canonical) words, with breaks. What they share of words that tell nothing holds nothing together."""
    statement, source = statement[:_MOST_TOKENS], source[:_MOST_TOKENS]
    matching = SequenceMatcher(_is_break, statement, source, autojunk=False).get_matching_blocks()
    blocks = [
        block
        for block in matching
        if block.size == 0 or any(map(tells, statement[block.a : block.a + block.size]))
    ]
    common: list[str] = []
    places: list[Place] = []
    here = there = 0
    for block in blocks:
        own = [word for word in statement[here : block.a] if word != BREAK]
        theirs = source[there : block.b]
        is_first, is_last = here == there == 0, block.size == 0
        if is_first:
            theirs = _last_clause(theirs)[-len(own) - _EDGE :]
        elif is_last:
            theirs = _first_clause(theirs)[: len(own) + _EDGE]
        is_inner = not is_first and not is_last
        if own or (theirs and is_inner):
            places.append(Place(own, theirs, is_inner))
        common.extend(word for word in statement[block.a : block.a + block.size] if word != BREAK)
        here, there = block.a + block.size, block.b + block.size
    return Comparison(common, places)


def _is_break(word: str) -> bool:
    return word == BREAK


def _first_clause(words: Sequence[str]) -> Sequence[str]:
    return words[: words.index(BREAK)] if BREAK in words else words


def _last_clause(words: Sequence[str]) -> Sequence[str]:
    """An aside before the first common word belongs to what stands before it."""
    if BREAK not in words or words[-1] == BREAK:
        return words
    return words[len(words) - list(reversed(words)).index(BREAK) :]


def strange(
    place: Place, *, tells: Callable[[str], bool], is_same: Callable[[str, str], bool]
) -> Sequence[str]:
    """The statement's own words that stand in the place of others; none where it says the same, or only more.

    `tells` are the words with a meaning, `is_same` compares two of them.
    """
    own = [word for word in place.own if tells(word)]
    theirs = [word for word in place.theirs if tells(word)]
    if all(any(is_same(other, word) for other in own) for word in theirs):
        return ()
    return [word for word in own if not any(is_same(word, other) for other in theirs)]
