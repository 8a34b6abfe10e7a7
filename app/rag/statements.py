"""What is compared of a statement and of its source: stems, numbers and names, read once."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from app.rag import equivalents, facts, questions, refusals, sentences
from app.rag.facts import Number

LANGUAGE_CHARACTERS: Final = 300
_MOST_SENTENCES: Final = 200
_LEAST_PREFIX: Final = 5
# Openers of sentences, which are capitalised for their place.
_OPENERS: Final = frozenset(
    """additionally also however moreover furthermore therefore thus overall finally further instead meanwhile similarly specifically
    generally currently typically usually yes no based according both each every some many most several all these those its
    selain juga namun oleh sebaliknya kesimpulannya secara ya tidak menurut berdasarkan setiap semua
    además también sin por según cada todos sí según en outre de plus selon chaque oui non außerdem zudem ja nein laut""".split()
)


@dataclass(frozen=True, slots=True)
class Text:
    """What is compared of a sentence."""

    start: int
    end: int
    text: str
    stems: frozenset[str]
    numbers: tuple[Number, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    text: str
    language: str
    sentences: tuple[Text, ...]
    keys: frozenset[str]
    stems: frozenset[str]


@lru_cache(maxsize=64)
def read(text: str, title: str) -> Source:
    language = refusals.language_of(text[:LANGUAGE_CHARACTERS])
    found = [said(text, start, end, language) for start, end, *_ in sentences.split(text)[:_MOST_SENTENCES]]
    titled = {word.key for word in sentences.words(title)}
    keys = {key for each in found for key in each.keys} | titled
    stems = frozenset().union(*(each.stems for each in found), {stem(key, language) for key in titled})
    return Source(text, language, tuple(found), frozenset(keys), stems)


def said(text: str, start: int, end: int, language: str) -> Text:
    piece = text[start:end]
    keys = tuple(word.key for word in sentences.words(piece))
    content = (key for key in keys if key not in questions.FUNCTION_WORDS and not facts.is_number(key))
    return Text(
        start,
        end,
        piece,
        frozenset(stem(key, language) for key in content),
        tuple(facts.numbers(piece, keys)),
        keys,
    )


@lru_cache(maxsize=32_768)
def stem(key: str, language: str) -> str:
    return key if sentences.is_dense(key) else equivalents.canonical(key, language)


def has(stem: str, stems: Collection[str]) -> bool:
    """Whether a stem, or a word of the same beginning, is among others."""
    if stem in stems:
        return True
    if len(stem) < _LEAST_PREFIX or sentences.is_dense(stem):
        return False
    prefix = stem[: max(_LEAST_PREFIX, len(stem) * 2 // 3)]
    return any(other.startswith(prefix) for other in stems)


def names(statement: str) -> Iterator[str]:
    """Words written as names, and codes; the first word of a sentence unless it only opens it."""
    for place, word in enumerate(sentences.words(statement)):
        key = word.key
        if not word.capitalised or key in questions.FUNCTION_WORDS or facts.is_number(key):
            continue
        if place == 0 and key in _OPENERS:
            continue
        yield key


def is_named(key: str, keys: frozenset[str]) -> bool:
    """Whether a name is there, perhaps with another ending (Malaysian, Malaysia)."""
    if key in keys:
        return True
    if len(key) < 4:
        return False
    prefix = key[: max(4, len(key) - 3)]
    return any(other.startswith(prefix) and abs(len(other) - len(key)) <= 3 for other in keys)
