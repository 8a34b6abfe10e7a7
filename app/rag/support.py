"""Whether the source that a sentence of an answer cites says it: exact in its facts, near in its words.

A statement is supported by the span of its source that has every number, unit and name of it, denies what it denies, and has
most of its words (by stem). What a model writes may be shorter than its source, in other forms of the words and in another
order; it may not have another number, another name or the opposite sense. Of a statement in another language than its source
only the facts can be compared; without any, nothing is said of it. All work is bounded, below a millisecond for five sources.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from app.rag import equivalents, facts, questions, refusals, sentences, wording
from app.rag.facts import Number
from app.rag.sentences import Span, Word

_CITATIONS: Final = re.compile(r"(?:[ \t]*\[\d{1,4}\])+")
_DIGITS: Final = re.compile(r"\d+")
_MOST_CITATIONS: Final = 60
_MOST_STATEMENT_CHARACTERS: Final = 1_200
_MOST_SOURCE_CHARACTERS: Final = 12_000
_MOST_SENTENCES: Final = 200
_LANGUAGE_CHARACTERS: Final = 300
_WINDOW: Final = 3
"""A statement may draw on as many neighbouring sentences of its source."""

LEAST_COVERAGE: Final = 0.6
"""The share of a statement's words that its source must have: right statements of models have more, of other passages less."""
_LEAST_OF_CLAUSE: Final = 0.6
_OTHER_LANGUAGE_COVERAGE: Final = 0.25
_LEAST_PREFIX: Final = 5
_LEAST_LIKE: Final = 3
_LEAST_ALIKE: Final = 0.5
"""From this share of a statement's words in the order of one sentence on, the two are laid beside each other."""
_MOST_COMPARED: Final = 5
_LEAST_INVENTED: Final = 2
_BREAKS: Final = re.compile(r"[,:](?!\d)|[;()–—]")
_LABEL: Final = re.compile(r"(?:[-*•] )?\*{2}([^*\n]{1,80}?):?\*{2}:? +(?=\w)")
"""Before a statement of a list: what it is about, or what it says, in short."""
_COPULAS: Final = frozenset("is are was were adalah ialah".split())
_LEAST_COPY: Final = 4
"""In words: from so many in their order a statement is a copy of its source."""
_CLAUSES: Final = re.compile(
    r"[,;:()–—]|\b(?:but|although|though|while|whereas|however|tetapi|namun|walaupun|pero|aunque|mais|aber|sondern|and|dan|y|et|und)\b|，|；|、"
)
_PARTS: Final = re.compile(r"(?:,\s+|[;，；]\s*|\s)(?:and|dan|serta|y|e|et|und)\s|,\s+|[;，；]\s*")
_MOST_PARTS: Final = 5
# Openers of sentences, which are capitalised for their place.
_OPENERS: Final = frozenset(
    """additionally also however moreover furthermore therefore thus overall finally further instead meanwhile similarly specifically
    generally currently typically usually yes no based according both each every some many most several all these those its
    selain juga namun oleh sebaliknya kesimpulannya secara ya tidak menurut berdasarkan setiap semua
    además también sin por según cada todos sí según en outre de plus selon chaque oui non außerdem zudem ja nein laut""".split()
)
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


@dataclass(frozen=True, slots=True)
class _Text:
    """What is compared of a sentence."""

    start: int
    end: int
    text: str
    stems: frozenset[str]
    numbers: tuple[Number, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    text: str
    language: str
    sentences: tuple[_Text, ...]
    keys: frozenset[str]
    stems: frozenset[str]


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
    if not 1 < len(parts) <= _MOST_PARTS or any(len(sentences.words(part)) < _LEAST_COPY for part in parts):
        return ()
    saying = [
        {number for number in numbers if _supports(part.strip(), *sources[number])[0]} for part in parts
    ]
    return set[int]().union(*saying) if all(saying) else ()


def _supports(statement: str, title: str, text: str) -> tuple[bool | None, Span | None, float]:
    place = text.find(statement)
    if place >= 0:
        return True, Span(place, place + len(statement)), 1.0
    source = _read(text[:_MOST_SOURCE_CHARACTERS], title)
    label = _LABEL.match(statement)
    if label and all(
        word.key in source.keys or _has(_stem(word.key, source.language), source.stems)
        for word in _words(label[1])
    ):
        supported, span, coverage = _supports(statement[label.end() :], title, text)
        if supported:
            return supported, span, coverage
    said = _said(statement, 0, len(statement), source.language)
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
        and not _is_denied(statement, said, best)
        and not _is_exchanged(statement, said, best)
        and not _is_replaced(said, best, source.language)
        and not _is_altered(said, source)
        and not _is_invented(said, source)
    )
    return supported, span, coverage


@lru_cache(maxsize=64)
def _read(text: str, title: str) -> _Source:
    language = refusals.language_of(text[:_LANGUAGE_CHARACTERS])
    found = [_said(text, start, end, language) for start, end, *_ in sentences.split(text)[:_MOST_SENTENCES]]
    titled = {word.key for word in sentences.words(title)}
    keys = {key for each in found for key in each.keys} | titled
    stems = frozenset().union(*(each.stems for each in found), {_stem(key, language) for key in titled})
    return _Source(text, language, tuple(found), frozenset(keys), stems)


def _said(text: str, start: int, end: int, language: str) -> _Text:
    piece = text[start:end]
    keys = tuple(word.key for word in sentences.words(piece))
    content = (key for key in keys if key not in questions.FUNCTION_WORDS and not facts.is_number(key))
    return _Text(
        start,
        end,
        piece,
        frozenset(_stem(key, language) for key in content),
        tuple(facts.numbers(piece, keys)),
        keys,
    )


@lru_cache(maxsize=32_768)
def _stem(key: str, language: str) -> str:
    return key if sentences.is_dense(key) else equivalents.canonical(key, language)


def _best_window(said: _Text, source: _Source) -> tuple[Sequence[_Text] | None, float]:
    """The fewest neighbouring sentences with the most of what is said, and which share of its words that is."""
    if not said.stems:
        value = {number.value for number in said.numbers}
        having = [each for each in source.sentences if value & {number.value for number in each.numbers}]
        return (having[:1], 1.0) if having else (None, 0.0)
    having_each = [
        frozenset(stem for stem in said.stems if _has(stem, each.stems)) for each in source.sentences
    ]
    best: Sequence[_Text] | None = None
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
    return best, sum(_has(stem, share) for stem in said.stems) / len(said.stems)


def _has(stem: str, stems: Collection[str]) -> bool:
    """Whether a stem, or a word of the same beginning, is among others."""
    if stem in stems:
        return True
    if len(stem) < _LEAST_PREFIX or sentences.is_dense(stem):
        return False
    prefix = stem[: max(_LEAST_PREFIX, len(stem) * 2 // 3)]
    return any(other.startswith(prefix) for other in stems)


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


def _names(statement: str) -> Iterator[str]:
    """Words written as names, and codes; the first word of a sentence unless it only opens it."""
    for place, word in enumerate(_words(statement)):
        key = word.key
        if not word.capitalised or key in questions.FUNCTION_WORDS or facts.is_number(key):
            continue
        if place == 0 and key in _OPENERS:
            continue
        yield key


def _words(statement: str) -> list[Word]:
    return sentences.words(statement)


def _has_names(statement: str, source: _Source) -> bool:
    if source.language == _CAPITALISES_NOUNS:
        return True
    return all(_is_named(key, source.keys) for key in _names(statement))


def _is_named(key: str, keys: frozenset[str]) -> bool:
    """Whether a name is there, perhaps with another ending (Malaysian, Malaysia)."""
    if key in keys:
        return True
    if len(key) < 4:
        return False
    prefix = key[: max(4, len(key) - 3)]
    return any(other.startswith(prefix) and abs(len(other) - len(key)) <= 3 for other in keys)


def _is_denied(statement: str, said: _Text, window: Sequence[_Text]) -> bool:
    """Whether the nearest clause of the source says the opposite."""
    clauses = [
        clause for each in window for clause in _CLAUSES.split(each.text) if clause and not clause.isspace()
    ]
    keys = set(said.keys)
    shared = [len(keys & {word.key for word in sentences.words(clause)}) for clause in clauses]
    most = max(shared)
    is_denied = questions.negates(clauses[shared.index(most)])
    if questions.negates(statement):
        # A clause too short to say it has its negation, if any, in another one.
        says_it = most >= _LEAST_OF_CLAUSE * len(keys)
        if not is_denied and (says_it or not any(questions.negates(each.text) for each in window)):
            return True
    elif is_denied:
        return True
    return questions.is_opposed(keys, {key for each in window for key in each.keys})


def _is_exchanged(statement: str, said: _Text, window: Sequence[_Text]) -> bool:
    """Whether two names or numbers have changed places in an otherwise literal copy."""
    names = set(_names(statement))
    here = [facts.value(key) for key in said.keys]
    stated = names | {value for value in here if value[:1].isdigit()}
    if sum(key in stated for key in here) < 2:
        return False
    there = [facts.value(key) for each in window for key in each.keys]
    plain = [key for key in here if key not in stated]
    is_copy = len(plain) >= _LEAST_COPY and _is_within(plain, [key for key in there if key not in stated])
    return is_copy and not _is_within(here, there)


def _is_replaced(said: _Text, window: Sequence[_Text], language: str) -> bool:
    """Whether a literal copy has words of its own in one place, where the source has others."""
    there = [_stem(key, language) for each in window for key in each.keys]
    known = frozenset(there)
    keys = [_stem(key, language) for key in said.keys]
    own = [place for place, key in enumerate(keys) if key in said.stems and not _has(key, known)]
    # Of pairs of characters, two are one other character: 是 for 为.
    if not own or (sentences.is_dense(keys[own[0]]) and len(own) < 3):
        return False
    copied = keys[: own[0]] + keys[own[-1] + 1 :]
    return len(copied) >= _LEAST_COPY and _is_within(copied, there)


def _is_altered(said: _Text, source: _Source) -> bool:
    """Whether what is almost a copy of a sentence has something else in a place of it, or its denial left out."""
    if not said.stems or sentences.is_dense(said.keys[0]):
        return False
    statement, language = _tokens(said, source.language), source.language
    shares = [
        (sum(_has(stem, each.stems) for stem in said.stems), -place)
        for place, each in enumerate(source.sentences)
    ]
    is_like_one = False
    for share, place in sorted(shares, reverse=True)[:_MOST_COMPARED]:
        if share < _LEAST_ALIKE * len(said.stems):
            break
        there = _tokens(source.sentences[-place], language)
        found = wording.compare(statement, there, _tells)
        common = sum(token in said.stems for token in found.common)
        if len(found.common) >= _LEAST_LIKE and common >= _LEAST_ALIKE * len(said.stems):
            if not any(_says_other(each, there) for each in found.places):
                return False
            is_like_one = True
    return is_like_one


def _says_other(place: wording.Place, there: Sequence[str]) -> bool:
    own, theirs = " ".join(place.own), " ".join(place.theirs)
    if place.is_inner and not place.is_aside and questions.negates(own) != questions.negates(theirs):
        return True
    strange = wording.strange(place, tells=_tells, is_same=_is_same)
    # "The first director was Tan" of "Tan, the first director, …": moved, with a verb that joins them.
    is_joined = not _COPULAS.isdisjoint(place.own) and _COPULAS.isdisjoint(place.theirs)
    is_moved = is_joined and all(word in there for word in strange)
    return bool(strange) and not is_moved


def _tells(token: str) -> bool:
    return token != wording.BREAK and token not in questions.FUNCTION_WORDS and not equivalents.is_free(token)


def _is_same(one: str, other: str) -> bool:
    return one == other or _has(one, (other,))


def _tokens(text: _Text, language: str) -> list[str]:
    """Its words as they are compared, with its breaks."""
    found: list[str] = []
    for clause in _BREAKS.split(text.text):
        found += (_token(word.key, language) for word in _words(clause))
        found.append(wording.BREAK)
    return found[:-1]


def _token(key: str, language: str) -> str:
    if facts.is_number(key):
        return facts.value(key)
    return key if key in questions.FUNCTION_WORDS else _stem(key, language)


def _is_invented(said: _Text, source: _Source) -> bool:
    """Whether a phrase of it has no word of its source, or what it says that something is."""
    if sentences.is_dense(said.keys[0]):
        return False
    run = known = unknown = 0
    has_copula = False
    for key in said.keys:
        token = _token(key, source.language)
        if key in _COPULAS:
            has_copula, known, unknown = True, 0, 0
        elif facts.is_number(key):
            known += 1
        elif _tells(token):
            is_known = _has(token, source.stems)
            run = 0 if is_known else run + 1
            known, unknown = known + is_known, unknown + (not is_known)
        if run >= _LEAST_INVENTED:
            return True
    return has_copula and unknown > 0 and not known


def _is_within(keys: Sequence[str], there: Sequence[str]) -> bool:
    """Whether the words stand there in this order."""
    rest = iter(there)
    return all(key in rest for key in keys)


def _is_in_another_language(statement: str, said: _Text, source: _Source) -> bool:
    """Whether a statement is in another script than its source, or shares none of the small words with it."""
    if _is_latin(statement) != _is_latin(source.text):
        return True
    spoken = refusals.language_of(statement)
    return spoken != source.language and not any({spoken, source.language} <= group for group in _NEAR)


def _is_latin(text: str) -> bool:
    letters = [character for character in text[:_LANGUAGE_CHARACTERS] if character.isalpha()]
    return 2 * sum(character < "\u0250" for character in letters) >= len(letters)


def _by_facts(statement: str, said: _Text, source: _Source) -> bool | None:
    """Of a statement in another language: its numbers and names, as far as they are written alike."""
    values = {number.value for each in source.sentences for number in each.numbers}
    wanted = {number.value for number in said.numbers}
    if not wanted <= values:
        return False
    names = list(_names(statement[1:]))  # its first letter is capital for its place
    known = sum(_is_named(key, source.keys) for key in names)
    tells = any(len(value) > 1 for value in wanted) or known
    return True if tells and 2 * known >= len(names) else None
