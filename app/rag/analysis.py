"""From pages of text to chunks, and what the full text search is to know of each: its language and its terms.

A chunk has its document's language unless it clearly is in another one, and the words of the title that somebody gave the
document and of the headings over it, where it does not contain them. Imports nothing heavy: `analyst.py` does this in processes of their own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.core.chunking import ChunkingPlan
from app.core.retrieval import WeighedTerms
from app.rag import headings as heading_paths
from app.rag import languages, splitting, weighing
from app.rag.chunking import Chunk, Page
from app.rag.headings import SEPARATOR, Span
from app.rag.weighing import Mentions, Vocabulary

Analysed = tuple[str, WeighedTerms]

_ANALYSED_AT_ONCE: Final = 1_000

_SURE: Final = 0.8
_UNLIKELY: Final = 0.15
_OBVIOUS_SHARE: Final = 0.1
"""So many words are its language's own stop words in nine of ten chunks of English, in foreign ones never above 0.07."""
_MOST_TITLE_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class Task:
    """A document to cut; `headings` are those of each page, by its number.

    Title and headings are for the words alone: as part of what is embedded a title makes vectors worse.
    """

    pages: Sequence[Page]
    plan: ChunkingPlan
    headings: Mapping[int, Sequence[Span]] | None = None
    fixed_language: str | None = None
    title: str = ""

    @property
    def characters(self) -> int:
        return sum(len(page.text) for page in self.pages)


@dataclass(frozen=True, slots=True)
class Cut:
    """A document's chunks, with the headings over each, its language and its terms."""

    chunks: list[Chunk]
    headings: list[str | None]
    chunk_languages: list[str]
    terms: list[WeighedTerms]

    @property
    def languages(self) -> list[str]:
        """The languages of the document, the commonest first."""
        return [language for language, _ in Counter(self.chunk_languages).most_common()]

    def __getitem__(self, part: slice) -> "Cut":
        return Cut(self.chunks[part], self.headings[part], self.chunk_languages[part], self.terms[part])


def cut(task: Task) -> Cut:
    """The chunks of all pages, analysed: 0.4 s a megabyte, work for a thread or a process."""
    spans = task.headings or {}
    starts = {number: [start for start, _, _ in found] for number, found in spans.items()}
    chunks = splitting.split(task.pages, task.plan, headings=starts)
    found = Cut(chunks, heading_paths.paths(task.pages, chunks, spans), [], [])
    for start in range(0, len(chunks), _ANALYSED_AT_ONCE):
        some = slice(start, start + _ANALYSED_AT_ONCE)
        texts = [chunk.text for chunk in chunks[some]]
        for language, weighed in analyse(
            texts, fixed_language=task.fixed_language, title=task.title, headings=found.headings[some]
        ):
            found.chunk_languages.append(language)
            found.terms.append(weighed)
    return found


def analyse(
    texts: Sequence[str],
    *,
    fixed_language: str | None = None,
    title: str = "",
    headings: Sequence[str | None] = (),
) -> list[Analysed]:
    """The language and the terms of each of a document's chunks, in order: 0.2 ms a kilobyte, work for a thread.

    `headings` are the path over each of them.
    """
    with weighing.vocabulary() as vocabulary:
        mentions = vocabulary.read(texts)
        spoken = (
            [fixed_language] * len(texts) if fixed_language else _languages_of(texts, vocabulary, mentions)
        )
        weighed = vocabulary.weigh(
            mentions,
            sizes=[len(text) for text in texts],
            spoken=spoken,
            contexts=[
                context(text, title, heading)
                for text, heading in zip(texts, headings or [None] * len(texts), strict=True)
            ],
        )
    return list(zip(spoken, weighed, strict=True))


def context(text: str, title: str, heading: str | None) -> str:
    """What of title and headings a chunk does not say itself."""
    above = (title[:_MOST_TITLE_CHARACTERS], *(heading or "").split(SEPARATOR))
    return " ".join(part for part in above if part and part not in text)


def _languages_of(texts: Sequence[str], vocabulary: Vocabulary, mentions: Mentions) -> list[str]:
    language, confidence = languages.detect("\n".join(texts[:: max(1, len(texts) // 8)]))
    whole = language if confidence >= _UNLIKELY else languages.UNKNOWN
    spoken = [whole] * len(texts)
    if len(texts) == 1:
        return spoken
    # Detection takes as long as all the rest, so it is for the chunks that are not obvious.
    own_words = vocabulary.own_words(mentions, whole)
    doubtful = np.flatnonzero(own_words <= _OBVIOUS_SHARE * mentions.counts).tolist()
    detected = languages.detect_all([texts[place] for place in doubtful])
    for place, (own, sure) in zip(doubtful, detected, strict=True):
        if sure >= _SURE:
            spoken[place] = own
    return spoken
