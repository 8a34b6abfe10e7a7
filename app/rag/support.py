"""Whether the source that a sentence of an answer cites says it: exact in its facts, near in its words.

A statement is supported by the span of its source that has every number, unit and name of it, denies what it denies, and has
most of its words (by stem). What a model writes may be shorter than its source, in other forms of the words and in another
order; it may not have another number, another name or the opposite sense. Of a statement in another language than its source
only the facts can be compared; without any, nothing is said of it. All work is bounded, below a millisecond for five sources.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.rag import alterations, refusals, sentences, statements
from app.rag.facts import Number
from app.rag.sentences import Span
from app.rag.statements import Source, Text

_CITATIONS: Final = re.compile(r"(?:[ \t]*\[\d{1,4}\])+")
_DIGITS: Final = re.compile(r"\d+")
_MOST_CITATIONS: Final = 60
_MOST_STATEMENT_CHARACTERS: Final = 1_200
_MOST_SOURCE_CHARACTERS: Final = 12_000
_WINDOW: Final = 3
"""A statement may draw on as many neighbouring sentences of its source."""

LEAST_COVERAGE: Final = 0.6
"""The share of a statement's words that its source must have: right statements of models have more, of other passages less."""
_OTHER_LANGUAGE_COVERAGE: Final = 0.25
_OF_ANOTHER_LANGUAGE: Final = 0.5
"""A statement in another language shares at most so many of its words, which are names."""
_LEAST_OF_PART: Final = 4
"""In words."""
_LABEL: Final = re.compile(r"(?:[-*•] )?\*{2}([^*\n]{1,80}?):?\*{2}:? +(?=\w)")
"""Before a statement of a list: what it is about, or what it says, in short."""
_PARTS: Final = re.compile(r"(?:,\s+|[;，；]\s*|\s)(?:and|dan|serta|y|e|et|und)\s|,\s+|[;，；]\s*")
_MOST_PARTS: Final = 5
# Languages that short texts are taken for each other in.
_NEAR: Final = (
    {"ms", "id"},
    {"da", "nb", "sv"},
    {"zh", "zh-Hant", "ja"},
    {"es", "pt"},
    {"ru", "uk"},
    {"cs", "pl"},
)
_CAPITALISES_NOUNS: Final = "de"


@dataclass(frozen=True, slots=True)
class Citation:
    """A statement of an answer (`text[start:end]`) and what the source `n` that it cites says of it.

    `supported` is None where that can't be told. The span is the best matching one of the source's text, None where none does.
    """

    n: int
    start: int
    end: int
    supported: bool | None
    span: Span | None
    coverage: float


def check(answer: str, sources: Mapping[int, tuple[str, str]]) -> list[Citation]:
    """Each citation of an answer, in order. `sources` are titles and texts by number; others than these are left out."""
    found: list[Citation] = []
    for span, numbers in _statements(answer):
        known = [number for number in numbers if number in sources]
        found.extend(_checked(answer, span, known, sources))
    return found


def check_last(answer: str, numbers: Sequence[int], sources: Mapping[int, tuple[str, str]]) -> list[Citation]:
    """The citations of an answer that has come as far as the markers of these numbers, which follow it."""
    markers = list(_CITATIONS.finditer(answer))
    if markers and not answer[markers[-1].end() :].strip():
        markers, answer = (
            markers[:-1],
            answer[: markers[-1].start()],
        )  # "[1] [2]": both are of the same statement
    start = max(markers[-1].end() if markers else 0, len(answer) - _MOST_STATEMENT_CHARACTERS)
    span = _last_sentence(answer, start, len(answer))
    known = [number for number in numbers if number in sources]
    return list(_checked(answer, span, known, sources)) if span else []


def _statements(answer: str) -> Iterator[tuple[Span, list[int]]]:
    """The statement before each group of markers: from the end of the sentence or the markers before it."""
    position = 0
    for count, match in enumerate(_CITATIONS.finditer(answer)):
        if count >= _MOST_CITATIONS:
            return
        start = max(position, match.start() - _MOST_STATEMENT_CHARACTERS)
        span = _last_sentence(answer, start, match.start())
        position = match.end()
        if span:
            yield span, list(dict.fromkeys(map(int, _DIGITS.findall(match[0]))))


def _last_sentence(answer: str, start: int, end: int) -> Span | None:
    stretch = answer[start:end]
    found = sentences.split(stretch, max_chars=_MOST_STATEMENT_CHARACTERS)
    if not found or not sentences.words(stretch):
        return None
    last = found[-1]
    return Span(start + last.start, start + last.end)


def _checked(
    answer: str, span: Span, numbers: Sequence[int], sources: Mapping[int, tuple[str, str]]
) -> Iterator[Citation]:
    statement = answer[span.start : span.end]
    results = [_supports(statement, *sources[number]) for number in numbers]
    unsure = len(numbers) > 1 and any(supported is False for supported, _, _ in results)
    parts = _by_parts(statement, numbers, sources) if unsure else ()
    for number, (supported, best, coverage) in zip(numbers, results, strict=True):
        yield Citation(number, span.start, span.end, True if number in parts else supported, best, coverage)


def _by_parts(
    statement: str, numbers: Sequence[int], sources: Mapping[int, tuple[str, str]]
) -> Collection[int]:
    """The sources that say a part of a statement of several parts, if together they say all of them."""
    parts = _PARTS.split(statement)
    if not 1 < len(parts) <= _MOST_PARTS or any(
        len(sentences.words(part)) < _LEAST_OF_PART for part in parts
    ):
        return ()
    saying = [
        {number for number in numbers if _supports(part.strip(), *sources[number])[0]} for part in parts
    ]
    return set[int]().union(*saying) if all(saying) else ()


def _supports(statement: str, title: str, text: str) -> tuple[bool | None, Span | None, float]:
    place = text.find(statement)
    if place >= 0:
        return True, Span(place, place + len(statement)), 1.0
    source = statements.read(text[:_MOST_SOURCE_CHARACTERS], title)
    label = _LABEL.match(statement)
    if label and all(
        word.key in source.keys or statements.has(statements.stem(word.key, source.language), source.stems)
        for word in sentences.words(label[1])
    ):
        supported, span, coverage = _supports(statement[label.end() :], title, text)
        if supported:
            return supported, span, coverage
    said = statements.said(statement, 0, len(statement), source.language)
    best, coverage = _best_window(said, source)
    if coverage < _OTHER_LANGUAGE_COVERAGE and _is_in_another_language(statement, said, source):
        return _by_facts(statement, said, source), None, coverage
    if best is None:
        return False, None, coverage
    span = Span(best[0].start, best[-1].end)
    least = 0.8 if source.language == _CAPITALISES_NOUNS else LEAST_COVERAGE
    supported = (
        coverage >= least
        and _has_numbers(said.numbers, [number for each in best for number in each.numbers])
        and _has_names(statement, source)
        and not alterations.is_denied(statement, said, best)
        and not alterations.is_exchanged(statement, said, best)
        and not alterations.is_replaced(said, best, source.language)
        and not alterations.is_altered(said, source)
        and not alterations.is_invented(said, source)
        and not alterations.is_spliced(said, source)
    )
    return supported, span, coverage


def _best_window(said: Text, source: Source) -> tuple[Sequence[Text] | None, float]:
    """The fewest neighbouring sentences with the most of what is said, and which share of its words that is."""
    if not said.stems:
        value = {number.value for number in said.numbers}
        having = [each for each in source.sentences if value & {number.value for number in each.numbers}]
        return (having[:1], 1.0) if having else (None, 0.0)
    having_each = [
        frozenset(stem for stem in said.stems if statements.has(stem, each.stems))
        for each in source.sentences
    ]
    best: Sequence[Text] | None = None
    most = (0.0, 0, 0)
    wanted = {number.value for number in said.numbers}
    for size in range(1, _WINDOW + 1):
        for first in range(len(source.sentences) - size + 1):
            window = source.sentences[first : first + size]
            found: frozenset[str] = frozenset().union(*having_each[first : first + size])
            values = len(wanted & {number.value for each in window for number in each.numbers})
            score = (len(found) / len(said.stems) + values, -size, -first)
            if found and score[0] > most[0]:
                best, most = window, score
    if best is None:
        return None, 0.0
    share = frozenset().union(*(each.stems for each in best))
    return best, sum(statements.has(stem, share) for stem in said.stems) / len(said.stems)


def _has_numbers(wanted: Sequence[Number], found: Sequence[Number]) -> bool:
    """Whether all numbers are there, none of them of another unit."""
    for number in wanted:
        same = [other for other in found if other.value == number.value]
        if not same:
            return False
        units = {other.unit for other in same}
        if number.unit is not None and None not in units and number.unit not in units:
            return False
    return True


def _has_names(statement: str, source: Source) -> bool:
    if source.language == _CAPITALISES_NOUNS:
        return True
    return all(statements.is_named(key, source.keys) for key in statements.names(statement))


def _is_in_another_language(statement: str, said: Text, source: Source) -> bool:
    """Whether a statement is in another script than its source, or shares none of the small words with it."""
    shared = sum(statements.has(stem, source.stems) for stem in said.stems)
    if shared > _OF_ANOTHER_LANGUAGE * len(said.stems):
        return False
    if _is_latin(statement) != _is_latin(source.text):
        return True
    spoken = refusals.language_of(statement)
    return spoken != source.language and not any({spoken, source.language} <= group for group in _NEAR)


def _is_latin(text: str) -> bool:
    letters = [character for character in text[: statements.LANGUAGE_CHARACTERS] if character.isalpha()]
    return 2 * sum(character < "\u0250" for character in letters) >= len(letters)


def _by_facts(statement: str, said: Text, source: Source) -> bool | None:
    """Of a statement in another language: its numbers and names, as far as they are written alike."""
    values = {number.value for each in source.sentences for number in each.numbers}
    wanted = {number.value for number in said.numbers}
    if not wanted <= values:
        return False
    names = list(statements.names(statement[1:]))  # its first letter is capital for its place
    known = sum(statements.is_named(key, source.keys) for key in names)
    tells = any(len(value) > 1 for value in wanted) or known
    return True if tells and 2 * known >= len(names) else None
