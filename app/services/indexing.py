"""What the full text search asks of questions: their terms and languages; for chunks that is `app.rag.analysis`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from app.core.config import Settings
from app.core.retrieval import QueryTerm, Scope
from app.rag import analysis as analysis_of_chunks
from app.rag import languages, terms

_LIKELY: Final = 0.4
_COMMON_PART: Final = 0.02
_MOST_LANGUAGES: Final = 4


def terms_of(text: str, language: str, *, title: str, heading: str | None) -> Mapping[int, float]:
    """The terms of a chunk whose language is known."""
    return terms.of_chunk(text, language=language, context=analysis_of_chunks.context(text, title, heading))


def analysis(settings: Settings) -> Callable[[str, str, str | None], tuple[str, Mapping[int, float]]]:
    """The language and the terms of one chunk, by its text, its document's title and its headings."""

    def of_chunk(text: str, title: str, heading: str | None) -> tuple[str, Mapping[int, float]]:
        ((language, found),) = analysis_of_chunks.analyse(
            [text], fixed_language=fixed_language(settings), title=title, headings=[heading]
        )
        return language, found.as_mapping()

    return of_chunk


@dataclass(frozen=True, slots=True)
class AnalysedQuestion:
    """The terms of a question, its language, and whether the passages that it is asked of are in that language too."""

    terms: list[QueryTerm]
    spoken: str
    written: bool


@lru_cache(maxsize=64)
def _spoken(question: str) -> tuple[str, float]:
    return languages.detect(question)


def read_ahead(question: str) -> None:
    """Find out now what `analyse_question` will ask: while a provider is, there is nothing else to do."""
    _spoken(question)


def analyse_question(settings: Settings, question: str, scope: Scope) -> AnalysedQuestion:
    """The terms of a question, in the languages that its scope is mostly written in."""
    fixed = fixed_language(settings)
    if fixed is not None:
        # How far vectors are to be trusted depends on the language, also where words are compared as they are.
        spoken = fixed if fixed in languages.CODES else _spoken(question)[0]
        return AnalysedQuestion(
            terms.of_question(question, languages=[fixed], spoken=fixed), spoken, written=True
        )
    known = [language for language, part in sorted(scope.languages.items(), key=lambda item: -item[1])]
    common = [language for language in known if scope.languages[language] >= _COMMON_PART][:_MOST_LANGUAGES]
    detected, confidence = _spoken(question)
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
