"""What the full text search knows of texts: the language of each, and its terms; the same for chunks and questions."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from app.core.config import Settings
from app.core.retrieval import QueryTerm, Scope
from app.rag import languages, terms
from app.rag.headings import SEPARATOR

Analysed = tuple[str, Mapping[int, float]]

_SURE: Final = 0.8
_LIKELY: Final = 0.4
_UNLIKELY: Final = 0.15
_COMMON_PART: Final = 0.02
_MOST_LANGUAGES: Final = 4
_MOST_TITLE_CHARACTERS: Final = 300


def analyse(
    settings: Settings, texts: Sequence[str], *, title: str = "", headings: Sequence[str | None] = ()
) -> list[Analysed]:
    """The language and the terms of each of a document's chunks, in order; `headings` are the path over each of them.

    A chunk has its document's language unless it clearly is in another one. Takes 0.5 ms a kilobyte.
    """
    fixed = fixed_language(settings)
    whole = fixed or _language_of("\n".join(texts[:: max(1, len(texts) // 8)]))
    analysed: list[Analysed] = []
    for place, text in enumerate(texts):
        language = whole
        if fixed is None and len(texts) > 1:
            own, confidence = languages.detect(text)
            if confidence >= _SURE:
                language = own
        heading = headings[place] if headings else None
        analysed.append((language, terms_of(text, language, title=title, heading=heading)))
    return analysed


def terms_of(text: str, language: str, *, title: str, heading: str | None) -> dict[int, float]:
    """The terms of a chunk: of its text, and of the title that somebody gave and the headings where it does not say them."""
    above = (title[:_MOST_TITLE_CHARACTERS], *(heading or "").split(SEPARATOR))
    context = " ".join(part for part in above if part and part not in text)
    return terms.of_chunk(text, language=language, context=context)


def analysis(settings: Settings) -> Callable[[str, str, str | None], Analysed]:
    """The same for one chunk, by its text, its document's title and its headings."""
    return lambda text, title, heading: analyse(settings, [text], title=title, headings=[heading])[0]


def languages_of(analysed: Sequence[Analysed]) -> list[str]:
    """The languages of a document, the commonest first."""
    return [language for language, _ in Counter(language for language, _ in analysed).most_common()]


@dataclass(frozen=True, slots=True)
class AnalysedQuestion:
    """The terms of a question, its language, and whether the passages that it is asked of are in that language too."""

    terms: list[QueryTerm]
    spoken: str
    written: bool


def analyse_question(settings: Settings, question: str, scope: Scope) -> AnalysedQuestion:
    """The terms of a question, in the languages that its scope is mostly written in."""
    fixed = fixed_language(settings)
    if fixed is not None:
        return AnalysedQuestion(
            terms.of_question(question, languages=[fixed], spoken=fixed), fixed, written=True
        )
    known = [language for language, part in sorted(scope.languages.items(), key=lambda item: -item[1])]
    common = [language for language in known if scope.languages[language] >= _COMMON_PART][:_MOST_LANGUAGES]
    detected, confidence = languages.detect(question)
    spoken = detected if confidence >= _LIKELY or not known else known[0]
    if _family(spoken) in map(_family, known) and spoken not in common:
        common.append(spoken)
    return AnalysedQuestion(
        terms.of_question(question, languages=common or [spoken], spoken=spoken),
        spoken,
        written=not known or any(_family(language) == _family(spoken) for language in common),
    )


def with_terms_before(asked: AnalysedQuestion, before: AnalysedQuestion, *, share: float) -> AnalysedQuestion:
    """The question's terms with this share of their weight, and those of the question before it with the rest."""
    own = {term.term: term for term in asked.terms}
    earlier = {term.term: term for term in before.terms}
    words = max((term.word for term in asked.terms), default=-1) + 1
    mixed = [
        replace(
            term,
            share=share * term.share + (1 - share) * (earlier[number].share if number in earlier else 0.0),
        )
        for number, term in own.items()
    ]
    mixed += [
        replace(term, share=(1 - share) * term.share, word=words + term.word)
        for number, term in earlier.items()
        if number not in own
    ]
    return replace(asked, terms=mixed)


def _family(language: str) -> str:
    """Languages that share a stemmer are not told apart reliably, and need not be."""
    return languages.STEMMERS.get(language, language)


def fixed_language(settings: Settings) -> str | None:
    """The language that all texts are taken to be in, if the settings name one: by its code or PostgreSQL's name."""
    name = settings.text_search_language
    return None if name == "auto" else languages.POSTGRES_CONFIGURATIONS.get(name, name)


def _language_of(text: str) -> str:
    language, confidence = languages.detect(text)
    return language if confidence >= _UNLIKELY else languages.UNKNOWN
