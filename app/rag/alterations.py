"""What makes a statement another one than its source's: a denial, an exchange, something else in a place of a copy."""

import itertools
import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final

from app.rag import equivalents, facts, questions, sentences, splices, statements, wording
from app.rag.statements import Source, Text

_LEAST_OF_CLAUSE: Final = 0.6
_LEAST_COPY: Final = 4
"""In words: from so many in their order a statement is a copy of its source."""
_LISTING: Final = frozenset("and or dan atau serta y e o u et ou und oder".split())
_LEAST_LIKE: Final = 3
_LEAST_ALIKE: Final = 0.5
"""From this share of a statement's words in the order of one sentence on, the two are laid beside each other."""
_MOST_COMPARED: Final = 5
_LEAST_INVENTED: Final = 2
"""Words in a row that the source has not."""
_BREAKS: Final = re.compile(r"[,:](?!\d)|[;()–—]")
_COPULAS: Final = frozenset("is are was were adalah ialah".split())
_CLAUSES: Final = re.compile(
    r"[,;:()–—]|\b(?:but|although|though|while|whereas|however|tetapi|namun|walaupun|pero|aunque|mais|aber|sondern|and|dan|y|et|und)\b|，|；|、"
)


def is_denied(statement: str, said: Text, window: Sequence[Text]) -> bool:
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


def is_exchanged(statement: str, said: Text, window: Sequence[Text]) -> bool:
    """Whether two names or numbers have changed places in an otherwise literal copy."""
    names = set(statements.names(statement))
    here = [facts.value(key) for key in said.keys]
    stated = names | {value for value in here if value[:1].isdigit()}
    if sum(key in stated for key in here) < 2:
        return False
    there = [facts.value(key) for each in window for key in each.keys]
    plain = [key for key in here if key not in stated]
    is_copy = len(plain) >= _LEAST_COPY and _is_within(plain, [key for key in there if key not in stated])
    if not is_copy or _is_within(here, there):
        return False
    return not _is_within(_listed(here, names), _listed(there, names))


def _listed(keys: Sequence[str], names: Collection[str]) -> Sequence[str]:
    """The words, with the names of a list ("Penang and Kedah") in one order: any is as right as another."""
    found: list[str] = []
    listed: list[list[str]] = []
    for place, key in enumerate(keys):
        if key in names:
            if not listed or keys[place - 1] not in names:
                listed.append([])
            listed[-1].append(key)
        elif not (listed and key in _LISTING and keys[place - 1] in names):
            found += [*itertools.chain(*sorted(listed)), key]
            listed = []
    return [*found, *itertools.chain(*sorted(listed))]


def is_replaced(said: Text, window: Sequence[Text], language: str) -> bool:
    """Whether a literal copy has words of its own in one place, where the source has others."""
    there = [statements.stem(key, language) for each in window for key in each.keys]
    known = frozenset(there)
    keys = [statements.stem(key, language) for key in said.keys]
    own = [place for place, key in enumerate(keys) if key in said.stems and not statements.has(key, known)]
    # Of pairs of characters, two are one other character: 是 for 为.
    if not own or (sentences.is_dense(keys[own[0]]) and len(own) < 3):
        return False
    copied = keys[: own[0]] + keys[own[-1] + 1 :]
    return len(copied) >= _LEAST_COPY and _is_within(copied, there)


def is_altered(said: Text, source: Source) -> bool:
    """Whether what is almost a copy of a sentence has something else in a place of it, or its denial left out."""
    if not said.stems or sentences.is_dense(said.keys[0]):
        return False
    statement, language = _tokens(said.text, source.language), source.language
    shares = [
        (sum(statements.has(stem, each.stems) for stem in said.stems), -place)
        for place, each in enumerate(source.sentences)
    ]
    like: list[tuple[int, bool]] = []
    for share, place in sorted(shares, reverse=True)[:_MOST_COMPARED]:
        if share < _LEAST_ALIKE * len(said.stems):
            break
        there = _tokens(source.sentences[-place].text, language)
        found = wording.compare(statement, there, _tells)
        common = sum(token in said.stems for token in found.common)
        if len(found.common) >= _LEAST_LIKE and common >= _LEAST_ALIKE * len(said.stems):
            like.append((len(found.common), any(_says_other(each, there) for each in found.places)))
    # The sentence that it was taken from has most of it in its order; that another one says nothing else does not mend it.
    most = max((common for common, _ in like), default=0)
    return bool(like) and all(says_other for common, says_other in like if common == most)


def is_spliced(said: Text, source: Source) -> bool:
    """Whether it joins what sentences say of different things, and none of them says all of it."""
    if not said.stems or sentences.is_dense(said.keys[0]):
        return False
    shares = [
        (sum(statements.has(stem, each.stems) for stem in said.stems), -place)
        for place, each in enumerate(source.sentences)
    ]
    near = sorted(shares, reverse=True)[:_MOST_COMPARED]
    language = source.language
    statement = _tokens(said.text, language)
    known = frozenset(statement)
    return splices.is_spliced(
        statement,
        [_tokens(source.sentences[-place].text, language) for _, place in near],
        tells=_tells,
        is_said=lambda word: statements.has(word, known),
    )


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
    return one == other or statements.has(one, (other,))


@lru_cache(maxsize=1024)
def _tokens(text: str, language: str) -> Sequence[str]:
    """The words of a sentence as they are compared, with its breaks."""
    found: list[str] = []
    for clause in _BREAKS.split(text):
        found += (_token(word.key, language) for word in sentences.words(clause))
        found.append(wording.BREAK)
    return found[:-1]


def _token(key: str, language: str) -> str:
    if facts.is_number(key):
        return facts.value(key)
    return key if key in questions.FUNCTION_WORDS else statements.stem(key, language)


def is_invented(said: Text, source: Source) -> bool:
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
            is_known = statements.has(token, source.stems)
            run = 0 if is_known else run + 1
            known, unknown = known + is_known, unknown + (not is_known)
        if run >= _LEAST_INVENTED:
            return True
    return has_copula and unknown > 0 and not known


def _is_within(keys: Sequence[str], there: Sequence[str]) -> bool:
    """Whether the words stand there in this order."""
    rest = iter(there)
    return all(key in rest for key in keys)
