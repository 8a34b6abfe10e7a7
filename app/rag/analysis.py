"""What the full text search is to know of a document's chunks: the language of each, and its terms.

A chunk has its document's language unless it clearly is in another one, and the words of a title that somebody gave the
document, where it does not contain them.
"""

from collections.abc import Sequence
from typing import Final

from app.core.retrieval import WeighedTerms
from app.rag import languages, terms

Analysed = tuple[str, WeighedTerms]

_SURE: Final = 0.8
_UNLIKELY: Final = 0.15
_OBVIOUS_SHARE: Final = 0.1
"""So many words are its language's own stop words in nine of ten chunks of English, in foreign ones never above 0.07."""
_MOST_TITLE_CHARACTERS: Final = 300


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
