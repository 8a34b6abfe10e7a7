"""How far the vector of a question is trusted beside its words, by embedding model and language.

The fused score of a passage is `weight` times its cosine above the least candidate's, in units of the model's `spread`,
plus the rest times its BM25 in units of the best candidate's. A cosine is not stretched to fill the scale: where the
nearest passage is no nearer than others usually are, its leg counts for less. Measured in
docs/decisions/0015-fusion.md; the values are per model and language, none is per collection.
"""

import re
from dataclasses import dataclass
from typing import Final

from app.core.retrieval import Trust

_ENGLISH: Final = "en"


@dataclass(frozen=True, slots=True)
class _Profile:
    """`languages` are those that a model knows well (None: all); `spread` is the cosine between near and unrelated.

    `weight` is that of the vector in those languages, `weight_of_dated` where the question names a year: small models see that
    there is a number and not which one, and of reports that are alike but for their year the words tell the right one. `needed` and `needed_elsewhere` are the relevance below which a passage has nothing to do with a question, in those
    languages and in others: `ibid eval --calibrate` measures it.
    """

    spread: float
    languages: frozenset[str] | None
    needed: float
    needed_elsewhere: float
    weight: float = 0.5
    weight_of_dated: float = 0.5
    akin: float | None = None
    """The cosine from which on two questions are of one subject; None where nobody measured it."""


_PROFILES: Final = {
    "all-MiniLM-L6-v2": _Profile(
        0.7,
        frozenset({_ENGLISH}),
        needed=0.26,
        needed_elsewhere=0.33,
        weight=0.6,
        weight_of_dated=0.4,
        akin=0.15,
    ),
    "text-embedding-3": _Profile(0.5, None, needed=0.25, needed_elsewhere=0.25),
    "text-embedding-ada": _Profile(0.2, None, needed=0.4, needed_elsewhere=0.4),
}
# Of a model that nobody measured the candidates' own range is the spread.
_UNMEASURED: Final = _Profile(0.0, None, needed=0.2, needed_elsewhere=0.2)

_FOREIGN_LANGUAGE: Final = 0.3
_ACROSS_LANGUAGES: Final = 0.75
_ACROSS_LANGUAGES_BY_NAMES: Final = 0.5
_MEANING_ALONE: Final = 0.65
_WORDS_ALONE: Final = 0.75
_SURE: Final = 1.5
"""Of the relevance that is needed: hardly an answerable question has less, and most that are about something else do."""
_SHARE_POINTING_BACK: Final = 0.7
_SHARE_OF_AKIN: Final = 0.8
_YEAR: Final = re.compile(r"(?<!\w)(?:19|20)\d\d(?!\w)")


def trust(embedding_model: str, question: str, *, spoken: str, written: bool) -> Trust:
    """For this question in the language `spoken`; `written` says whether the passages are in that language, too.

    Where they are not, the words that both share are names and numbers, and meaning has to carry the rest.
    """
    profile = _profile(embedding_model)
    known = profile.languages is None or spoken in profile.languages
    if not written:
        weight = _ACROSS_LANGUAGES if profile.languages is None else _ACROSS_LANGUAGES_BY_NAMES
    elif known:
        weight = profile.weight_of_dated if _YEAR.search(question) else profile.weight
    else:
        weight = _FOREIGN_LANGUAGE
    return Trust(weight=weight, spread=profile.spread)


def share_of_question(embedding_model: str, cosine: float, *, spoken: str, points_back: bool) -> float:
    """How much of a search is the question itself (1: all), and not the one that was asked before it.

    One that points back is of the subject of that one. Any other is where the cosine of the two says so, in a language that
    the model knows.
    """
    if points_back:
        return _SHARE_POINTING_BACK
    profile = _profile(embedding_model)
    known = profile.languages is None or spoken in profile.languages
    return _SHARE_OF_AKIN if known and profile.akin is not None and cosine >= profile.akin else 1.0


def relevance(similarity: float, coverage: float, *, written: bool) -> float:
    """How much a passage has to do with a question, 0 to 1: by meaning and by the share of its words, half each.

    Across languages the words may be missing for a good reason.
    """
    by_both = (similarity + coverage) / 2
    return min(max(by_both if written else max(by_both, _MEANING_ALONE * similarity), 0.0), 1.0)


def relevance_by_words(coverage: float) -> float:
    """The same where nothing is known of meanings: a passage of half of the words is as good as one that is near as well."""
    return min(max(_WORDS_ALONE * coverage, 0.0), 1.0)


def needed_relevance(embedding_model: str, *, spoken: str) -> float:
    """The least relevance of a passage that is worth answering a question in this language from."""
    profile = _profile(embedding_model)
    known = profile.languages is None or spoken in profile.languages
    return profile.needed if known else profile.needed_elsewhere


def doubt(embedding_model: str, relevance: float, *, needed: float, spoken: str) -> float:
    """How far a passage is from being surely about the question's subject, 0 to 1; in a language that the model knows little of
    relevances say too little for that.
    """
    sure = _SURE * needed if understands(embedding_model, spoken) else needed
    return max(0.0, 1 - relevance / sure) if sure > 0 else 0.0


def understands(embedding_model: str, spoken: str) -> bool:
    """Whether a model knows a language well."""
    profile = _profile(embedding_model)
    return profile.languages is None or spoken in profile.languages


def _profile(embedding_model: str) -> _Profile:
    return next((known for name, known in _PROFILES.items() if name in embedding_model), _UNMEASURED)
