"""What each sentence of the passages says about a question, in features between 0 and 1.

Owns what can be quoted from a passage, how words match, and what a sentence inherits from the title, the
headings and the sentence it refers back to. What the features are worth is not decided here.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from app.rag import questions, sentences
from app.rag.questions import Question
from app.rag.sentences import Kind, Sentence, Word

# Bounds on the work for one answer.
MAX_PASSAGES = 20
MAX_PASSAGE_CHARS = 12_000
MAX_TOTAL_CHARS = 40_000
MAX_TITLE_CHARS = 1_000
MAX_CANDIDATES = 2_000
MAX_QUOTE_CHARS = 600
MAX_LIST_ITEMS = 12

# A long question is never covered whole: past this many terms, further ones do not ask for more.
FULL_COVERAGE_TERMS = 6
# Names and numbers weigh more than other terms, and must match more exactly.
NAME_WEIGHT = 1.5
NAME_MATCH = 0.7
# What a sentence inherits counts nearly as if it said it itself.
INHERITED_SHARE = 0.8
# A definition names what it defines among its first words.
MAX_WORDS_BEFORE_DEFINED = 5

# Letter trigrams that words must share, as Dice's coefficient; the same beginning counts extra.
_LEAST_SIMILARITY = 0.5
_SAME_BEGINNING = 0.15
_LEAST_TRIGRAM_CHARS = 4

_DEFINES = frozenset(
    "is are was were means refers adalah ialah merupakan yaitu iaitu es son era fue est sont ist sind e"
    " sono".split()
)
_DENSE_DEFINES = re.compile("[是指]")
# A sentence that begins with one of these is about what the sentence before it is about.
_ANAPHORA = frozenset(
    "he she it they this these his her its their such dia ia beliau mereka ini itu ella ellos esto elle"
    " ils".split()
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved passage: its source's number, its text, the title of its document.

    What the title says counts as said throughout the passage; a title is never quoted. `doubt` (0 to 1) is how far the search
    is from being sure that it has to do with the question.
    """

    n: int
    text: str
    title: str = ""
    doubt: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """What can be quoted: a sentence, a row, a heading, or a lead-in with its list.

    `passage`, `headings` (those it stands under) and `antecedent` (what it refers back to) are positions.
    """

    passage: int
    start: int
    end: int
    text: str
    kind: Kind
    words: tuple[Word, ...]
    headings: tuple[int, ...]
    antecedent: int | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """How much a candidate says about the question."""

    candidate: Candidate
    coverage: float
    """The share of the question's terms, by weight, that it says or inherits."""
    coverage_said: float
    """The share of them that it says itself."""
    coverage_around: float
    """What its two neighbours say of the rest."""
    names_elsewhere: float
    """What the rest of the passage says of the names that it lacks."""
    missing_names: float
    """1 when a third of the question's names and numbers (one of up to three) are nowhere in the passage."""
    offers_answer: bool
    """Whether it has something of the type asked for that the question does not already say."""
    opening: float
    """How near to its beginning it names a term."""
    defines: bool
    """Whether it says what a term near its beginning is."""


Matches = Mapping[str, float]
"""For each term of the question that occurs, how similar its most similar word is."""


def candidates(passages: Sequence[Passage]) -> list[Candidate]:
    """What can be quoted from the passages, in reading order, within the bounds."""
    found: list[Candidate] = []
    budget = MAX_TOTAL_CHARS
    for index, passage in enumerate(passages[:MAX_PASSAGES]):
        text = sentences.cut(passage.text, min(MAX_PASSAGE_CHARS, budget))
        budget -= len(text)
        found.extend(_candidates_of(text, index, first=len(found)))
    return found[:MAX_CANDIDATES]


def weigh(question: Question, passages: Sequence[Passage], candidates: Sequence[Candidate]) -> list[Evidence]:
    """The evidence of each candidate, in their order."""
    titles = [sentences.words(passage.title[:MAX_TITLE_CHARS]) for passage in passages[:MAX_PASSAGES]]
    vocabulary = {word.key for words in (*titles, *(each.words for each in candidates)) for word in words}
    similar = similar_words(question.terms, vocabulary)
    throughout = [_matches(words, similar) for words in titles]
    said = [_matches(each.words, similar) for each in candidates]
    known = _with_inherited(question, candidates, said, throughout)
    for candidate, matches in zip(candidates, said, strict=True):
        _merge(throughout[candidate.passage], matches)
    missing = [_missing_names(question, matches) for matches in throughout]
    weights = _weights(question, said)
    of_names = {name: weights[name] for name in question.names}

    def evidence(position: int, candidate: Candidate) -> Evidence:
        around = dict(known[position])
        for neighbour in range(max(0, position - 1), min(len(candidates), position + 2)):
            if candidates[neighbour].passage == candidate.passage:
                _merge(around, said[neighbour])
        coverage = _covered(weights, known[position])
        names = _covered(of_names, known[position])
        first = next((i for i, word in enumerate(candidate.words[:8]) if word.key in similar), None)
        return Evidence(
            candidate=candidate,
            coverage=coverage,
            coverage_said=_covered(weights, said[position]),
            coverage_around=_covered(weights, around) - coverage,
            names_elsewhere=_covered(of_names, throughout[candidate.passage]) - names,
            missing_names=missing[candidate.passage],
            offers_answer=questions.offers(question, candidate.words),
            opening=0.0 if first is None else 1 / (1 + first),
            defines=first is not None and _defines(candidate, first),
        )

    return [evidence(position, candidate) for position, candidate in enumerate(candidates)]


def contradicts(question: Question, candidate: Candidate) -> int:
    """Whether it says the opposite of a word of the question; whether it affirms what that negates."""
    is_affirmed = question.negated and not questions.negates(candidate.text)
    return is_affirmed + questions.is_opposed(question.keys, {word.key for word in candidate.words})


def similar_words(terms: Iterable[str], vocabulary: Set[str]) -> dict[str, dict[str, float]]:
    """Word → term → similarity (0.5 to 1): 1 for the same key, else the Dice coefficient of letter trigrams.

    Trigrams stand in for a stemmer: they find a stem behind prefixes and suffixes of any alphabetic language.
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
    """Of words long enough to have a stem; numbers match exactly or not at all."""
    if len(word) < _LEAST_TRIGRAM_CHARS or word[0].isdigit():
        return frozenset()
    return frozenset(word[i : i + 3] for i in range(len(word) - 2))


def _candidates_of(text: str, passage: int, *, first: int) -> Iterator[Candidate]:
    """`first` is the position that the first of them will have among all candidates."""
    spans = sentences.split(text, max_chars=MAX_QUOTE_CHARS)
    above: list[tuple[int, int]] = []  # level and position of the headings over a sentence
    before: Candidate | None = None
    for position, span in enumerate(spans, start=first):
        offset = position - first
        end = _end_of_quote(text, span, spans[offset + 1 : offset + MAX_LIST_ITEMS])
        words = tuple(sentences.words(text[span.start : end]))
        below_level = span.level or sentences.LEVEL_OF_TABLE + (span.kind is Kind.ROW)
        above = [heading for heading in above if heading[0] < below_level]
        refers_back = words and words[0].key in _ANAPHORA and before and before.kind is Kind.PROSE
        before = Candidate(
            passage=passage,
            start=span.start,
            end=end,
            text=text[span.start : end],
            kind=span.kind if end == span.end else Kind.ITEM,
            words=words,
            headings=tuple(heading for _, heading in above),
            antecedent=position - 1 if refers_back else None,
        )
        yield before
        if span.level:
            above.append((span.level, position))


def _end_of_quote(text: str, span: Sentence, following: Sequence[Sentence]) -> int:
    """A lead-in ("…:"), or what heads items, is quoted with its list; other sentences end where they end."""
    taken: set[Kind] = set()
    if span.kind in (Kind.HEADING, Kind.QUESTION):
        taken = {Kind.ITEM}
    elif span.kind is not Kind.ROW and text[span.end - 1] in ":：":
        taken = {Kind.ITEM, Kind.PROSE}
    end = span.end
    for item in following if taken else ():
        is_below = end != span.end and item.kind is not Kind.ITEM and text.count("\n", end, item.start) > 1
        if item.kind not in taken or is_below or item.end - span.start > MAX_QUOTE_CHARS:
            break
        end = item.end
    return end


def _with_inherited(
    question: Question,
    candidates: Sequence[Candidate],
    said: Sequence[Matches],
    of_titles: Sequence[Matches],
) -> list[dict[str, float]]:
    """What each candidate says, and less surely what its title and headings say and its antecedent names."""
    known: list[dict[str, float]] = []
    for candidate, matches in zip(candidates, said, strict=True):
        inherited = dict(of_titles[candidate.passage])
        for heading in candidate.headings:
            _merge(inherited, said[heading])
        if candidate.antecedent is not None:
            before = known[candidate.antecedent]
            _merge(inherited, {name: before[name] for name in question.names & before.keys()})
        all_known = {term: INHERITED_SHARE * strength for term, strength in inherited.items()}
        _merge(all_known, matches)
        known.append(all_known)
    return known


def _matches(words: Iterable[Word], similar: Mapping[str, Matches]) -> dict[str, float]:
    best: dict[str, float] = {}
    for word in words:
        if word.key in similar:
            _merge(best, similar[word.key])
    return best


def _merge(into: dict[str, float], other: Matches) -> None:
    for term, strength in other.items():
        into[term] = max(strength, into.get(term, 0.0))


def _weights(question: Question, said: Sequence[Matches]) -> dict[str, float]:
    """Of the terms, so that 1 is full coverage: by rarity among the sentences at hand, more for names."""
    frequency = Counter(term for matches in said for term in matches)
    weights = {
        term: math.log1p(len(said) / (1 + frequency[term])) * (NAME_WEIGHT if term in question.names else 1.0)
        for term in question.terms
    }
    full = sum(weights.values()) * min(1.0, FULL_COVERAGE_TERMS / len(weights))
    return {term: weight / full for term, weight in weights.items()}


def _covered(weights: Mapping[str, float], matches: Matches) -> float:
    return min(1.0, sum(weights.get(term, 0.0) * strength for term, strength in matches.items()))


def _missing_names(question: Question, throughout: Matches) -> float:
    missing = sum(throughout.get(name, 0.0) < NAME_MATCH for name in question.names)
    return min(1.0, 3 * missing / len(question.names)) if missing else 0.0


def _defines(candidate: Candidate, first: int) -> bool:
    """Whether the term at `first` is followed by "is" or the like."""
    if first >= MAX_WORDS_BEFORE_DEFINED:
        return False
    predicate = candidate.words[first + 1 : first + 10]
    is_dense_definition = _DENSE_DEFINES.search(candidate.text[:40]) is not None
    return is_dense_definition or any(word.key in _DEFINES for word in predicate)
