"""Statements that join the end of one sentence of their source to the beginning of another, which is about something else.

"The Social Charter was adopted in 1989" and "Great Britain, which refused to sign, left in 1990" do not say that the Charter left in 1990. Each
half is a literal copy, so nothing in it is strange; what gives it away is what the second sentence had before it, and the statement has not.
"""

from collections.abc import Callable, Sequence
from typing import Final

from app.rag.wording import BREAK

_LEAST_RUN: Final = 3
"""In words; of these at least two tell something."""
_LEAST_TELLING: Final = 2
_MOST_OF_REFERENCE: Final = 1
"""`The city` may stand for what the statement names."""
_MOST_WORDS: Final = 120
_CONDITIONS: Final = frozenset("if unless jika kalau sekiranya apabila si wenn falls".split())
_RELATIVES: Final = frozenset("which who whom whose yang qui dont que cuyo".split())

Words = Sequence[str]


def is_spliced(
    statement: Words,
    sentences: Sequence[Words],
    *,
    tells: Callable[[str], bool],
    is_said: Callable[[str], bool],
) -> bool:
    """Whether words that follow each other in the statement stand in one sentence behind a subject that it does not name.

    All as canonical words with breaks. `is_said` is whether the statement has a word, in whatever form.
    """
    words = [word for word in statement[:_MOST_WORDS] if word != BREAK]
    place = 0
    owner: int | None = None
    while place < len(words):
        number, start, length = _longest(words, place, sentences, preferred=owner)
        run = words[place : place + length]
        if length < _LEAST_RUN or sum(map(tells, run)) < _LEAST_TELLING:
            place += 1
            continue
        if owner is not None and number != owner and _lost(sentences[number], start, tells, is_said):
            return True
        owner, place = number, place + length
    return False


def _longest(
    words: Words, place: int, sentences: Sequence[Words], *, preferred: int | None
) -> tuple[int, int, int]:
    """The sentence that has the most of what stands at this place, where in it, and how many words."""
    best = (0, 0, 0)
    for number, sentence in enumerate(sentences):
        for start, word in enumerate(sentence):
            if word != words[place]:
                continue
            length = _common(words, place, sentence, start)
            if length > best[2] or (length == best[2] and number == preferred):
                best = (number, start, length)
    return best


def _common(words: Words, place: int, sentence: Words, start: int) -> int:
    count = 0
    while place + count < len(words) and start < len(sentence):
        if sentence[start] == BREAK:
            start += 1
            continue
        if sentence[start] != words[place + count]:
            break
        start, count = start + 1, count + 1
    return count


def _lost(sentence: Words, start: int, tells: Callable[[str], bool], is_said: Callable[[str], bool]) -> bool:
    """Whether what the sentence says before this place, in the same clause, is missing in the statement."""
    head = list(sentence[:start])
    clause = _last_clause(head)
    if not _CONDITIONS.isdisjoint(clause):
        return not any(is_said(word) for word in _CONDITIONS.intersection(clause))
    # What a relative clause is about stands before it.
    if not _RELATIVES.isdisjoint(clause[:2]):
        clause = head
    missing = {word for word in clause if tells(word) and not is_said(word)}
    return len(missing) > _MOST_OF_REFERENCE


def _last_clause(words: list[str]) -> list[str]:
    return words[len(words) - words[::-1].index(BREAK) :] if BREAK in words else words
