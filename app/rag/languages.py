"""Which language a text is in, and what is known of a language: its stemmer and its stop words.

Languages are named by their ISO 639-1 code. Detection is py3langid's, narrowed to languages that people keep documents
in; the stemmers are Snowball's, those of PostgreSQL and newer ones. Both are the same for documents and questions.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import compress
from pathlib import Path
from typing import Final

import Stemmer

from app.rag.language_model import LanguageModel, Tables, unpack

UNKNOWN: Final = "und"
"""No language: words are folded, but neither stemmed nor dropped."""

STEMMERS: Final = {
    "ar": "arabic",
    "bs": "serbian",
    "ca": "catalan",
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "eo": "esperanto",
    "es": "spanish",
    "et": "estonian",
    "eu": "basque",
    "fa": "persian",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hr": "serbian",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "ms": "indonesian",
    "ne": "nepali",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "yi": "yiddish",
}
_WITHOUT_STEMMER: Final = (
    *(
        "az",
        "be",
        "bg",
        "bn",
        "gl",
        "gu",
        "he",
        "is",
        "ja",
        "ka",
        "kk",
        "km",
        "kn",
        "ko",
        "la",
        "lo",
        "lv",
        "mk",
        "ml",
    ),
    *(
        "mn",
        "mr",
        "mt",
        "my",
        "pa",
        "si",
        "sk",
        "sl",
        "sq",
        "sw",
        "te",
        "th",
        "tl",
        "uk",
        "ur",
        "uz",
        "vi",
        "zh",
    ),
)
CODES: Final = frozenset({*STEMMERS, *_WITHOUT_STEMMER})
POSTGRES_CONFIGURATIONS: Final = {
    "arabic": "ar",
    "armenian": "hy",
    "basque": "eu",
    "catalan": "ca",
    "danish": "da",
    "dutch": "nl",
    "english": "en",
    "estonian": "et",
    "finnish": "fi",
    "french": "fr",
    "german": "de",
    "greek": "el",
    "hindi": "hi",
    "hungarian": "hu",
    "indonesian": "id",
    "irish": "ga",
    "italian": "it",
    "lithuanian": "lt",
    "nepali": "ne",
    "norwegian": "no",
    "portuguese": "pt",
    "romanian": "ro",
    "russian": "ru",
    "serbian": "sr",
    "simple": UNKNOWN,
    "spanish": "es",
    "swedish": "sv",
    "tamil": "ta",
    "turkish": "tr",
    "yiddish": "yi",
}
"""The names of PostgreSQL's text search configurations, by which a language may be named too."""

_SAMPLE_CHARACTERS: Final = 1_000
_STOP_WORDS: Final = Path(__file__).parent / "assets" / "stop_words"


_models: list[LanguageModel] = []
"""The one of this process, once it is loaded."""
_loading = threading.Lock()
_stemming = threading.Lock()


def detect(text: str) -> tuple[str, float]:
    """The language of a text by its first thousand characters, and how sure that is (0 to 1)."""
    sample = text[:_SAMPLE_CHARACTERS]
    if not any(map(str.isalpha, sample)):
        return UNKNOWN, 0.0
    return _named(_model().classify(sample))


def detect_all(texts: Sequence[str]) -> list[tuple[str, float]]:
    """The same of many texts, in less time."""
    samples = [text[:_SAMPLE_CHARACTERS] for text in texts]
    written = [any(map(str.isalpha, sample)) for sample in samples]
    classified = iter(_model().classify_all(list(compress(samples, written))) if any(written) else ())
    return [_named(next(classified)) if has_letters else (UNKNOWN, 0.0) for has_letters in written]


def _named(classified: tuple[str, float]) -> tuple[str, float]:
    language, confidence = classified
    return ("no" if language == "nn" else language), confidence


def warm_up() -> None:
    """Load the model of detection (0.6 s); without this the first text does."""
    _model()


def loaded_tables() -> Tables | None:
    """The model's tables, for a process that this one starts; None while it is not loaded."""
    model = _models[0] if _models else None
    return model.tables if model else None


def adopt(tables: Tables) -> None:
    """Use the tables that the process has which started this one."""
    with _loading:
        _models[:] = [LanguageModel(tables)]


def stem(word: str, language: str) -> str:
    """The stem of a folded word; the word itself where its language has no stemmer."""
    algorithm = STEMMERS.get(language)
    if algorithm is None:
        return word
    with _stemming:  # a stemmer is not safe between threads
        stemmed: str = _stemmer(algorithm).stemWord(word)
    return stemmed


@cache
def stop_words(language: str) -> frozenset[str]:
    """Words that say nothing of what a text is about, folded."""
    try:
        return frozenset((_STOP_WORDS / f"{language}.txt").read_text(encoding="utf-8").casefold().split())
    except FileNotFoundError:
        return frozenset()


@cache
def own_stop_words(language: str) -> frozenset[str]:
    """Those of them that no other language has."""
    return stop_words(language).difference(*(stop_words(code) for code in CODES if code != language))


def common(languages: Counter[str], *, share: float, most: int) -> tuple[str, ...]:
    """The languages that make up at least this share of all, the commonest first."""
    total = languages.total()
    return tuple(language for language, count in languages.most_common(most) if count >= share * total)


@cache
def _stemmer(algorithm: str) -> Stemmer.Stemmer:
    return Stemmer.Stemmer(algorithm, maxCacheSize=0)


def _model() -> LanguageModel:
    with _loading:
        if not _models:
            _models.append(LanguageModel(unpack({*CODES, "nn"})))
        return _models[0]
