"""From pages of text to chunks, and what the full text search is to know of each: its language and its terms.

A chunk has its document's language unless it clearly is in another one, and the words of a title that somebody gave the
document, where it does not contain them. Imports nothing heavy: `analyst.py` does this in processes of their own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.core.chunking import ChunkingPlan
from app.core.retrieval import WeighedTerms
from app.rag import languages, splitting, terms
from app.rag.chunking import Chunk, Page

Analysed = tuple[str, WeighedTerms]

_ANALYSED_AT_ONCE: Final = 1_000

_SURE: Final = 0.8
_UNLIKELY: Final = 0.15
_OBVIOUS_SHARE: Final = 0.1
"""So many words are its language's own stop words in nine of ten chunks of English, in foreign ones never above 0.07."""
_MOST_TITLE_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class Task:
    """A document to cut; `headings` are where those of a page begin, by its number.

    The title is for the words alone: as part of what is embedded it makes vectors worse.
    """

    pages: Sequence[Page]
    plan: ChunkingPlan
    headings: Mapping[int, Sequence[int]] | None = None
    fixed_language: str | None = None
    title: str = ""

    @property
    def characters(self) -> int:
        return sum(len(page.text) for page in self.pages)


@dataclass(frozen=True, slots=True)
class Cut:
    """A document's chunks, with the language of each and its terms."""

    chunks: list[Chunk]
    chunk_languages: list[str]
    terms: list[WeighedTerms]

    @property
    def languages(self) -> list[str]:
        """The languages of the document, the commonest first."""
        return [language for language, _ in Counter(self.chunk_languages).most_common()]

    def __getitem__(self, part: slice) -> "Cut":
        return Cut(self.chunks[part], self.chunk_languages[part], self.terms[part])


def cut(task: Task) -> Cut:
    """The chunks of all pages, analysed: 0.4 s a megabyte, work for a thread or a process."""
    found = Cut(splitting.split(task.pages, task.plan, headings=task.headings), [], [])
    for start in range(0, len(found.chunks), _ANALYSED_AT_ONCE):
        texts = [chunk.text for chunk in found.chunks[start : start + _ANALYSED_AT_ONCE]]
        for language, weighed in analyse(texts, fixed_language=task.fixed_language, title=task.title):
            found.chunk_languages.append(language)
            found.terms.append(weighed)
    return found


def analyse(texts: Sequence[str], *, fixed_language: str | None = None, title: str = "") -> list[Analysed]:
    """The language and the terms of each of a document's chunks, in order: 0.2 ms a kilobyte, work for a thread."""
    tokenized = [terms.tokens(text) for text in texts]
    spoken = [fixed_language] * len(texts) if fixed_language else _languages_of(texts, tokenized)
    weighed = terms.weigh(
        tokenized,
        sizes=[len(text) for text in texts],
        languages=spoken,
        contexts=["" if title in text else title[:_MOST_TITLE_CHARACTERS] for text in texts],
    )
    return list(zip(spoken, weighed, strict=True))


def _languages_of(texts: Sequence[str], tokenized: Sequence[Sequence[str]]) -> list[str]:
    language, confidence = languages.detect("\n".join(texts[:: max(1, len(texts) // 8)]))
    whole = language if confidence >= _UNLIKELY else languages.UNKNOWN
    spoken = [whole] * len(texts)
    if len(texts) == 1:
        return spoken
    # Detection takes as long as all the rest, so it is for the chunks that are not obvious.
    own_words = languages.own_stop_words(whole)
    doubtful = [
        place
        for place, tokens in enumerate(tokenized)
        if sum(map(own_words.__contains__, tokens)) <= _OBVIOUS_SHARE * len(tokens)
    ]
    detected = languages.detect_all([texts[place] for place in doubtful])
    for place, (own, sure) in zip(doubtful, detected, strict=True):
        if sure >= _SURE:
            spoken[place] = own
    return spoken
