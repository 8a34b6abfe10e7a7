"""Which language a text is in, and what is known of a language: its stemmer and its stop words.

Languages are named by their ISO 639-1 code. Detection is py3langid's, narrowed to languages that people keep documents
in; the stemmers are Snowball's, those of PostgreSQL and newer ones. Both are the same for documents and questions.
"""

import lzma
import mmap
import shutil
import tempfile
import threading
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import Stemmer
from numpy.typing import NDArray

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

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


_loading = threading.Lock()
_stemming = threading.Lock()


def detect(text: str) -> tuple[str, float]:
    """The language of a text by its first thousand characters, and how sure that is (0 to 1)."""
    sample = text[:_SAMPLE_CHARACTERS]
    if not any(map(str.isalpha, sample)):
        return UNKNOWN, 0.0
    language, confidence = _identifier().classify(sample)
    return ("no" if language == "nn" else language), confidence


def warm_up() -> None:
    """Load the model of detection (0.6 s); without this the first text does."""
    _identifier()


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


def common(languages: Counter[str], *, share: float, most: int) -> tuple[str, ...]:
    """The languages that make up at least this share of all, the commonest first."""
    total = languages.total()
    return tuple(language for language, count in languages.most_common(most) if count >= share * total)


@cache
def _stemmer(algorithm: str) -> Stemmer.Stemmer:
    return Stemmer.Stemmer(algorithm, maxCacheSize=0)


def _identifier() -> "LanguageIdentifier":
    with _loading:
        return _loaded_identifier()


@cache
def _loaded_identifier() -> "LanguageIdentifier":
    """py3langid's own identifier on tables in a file: of 40 MB only the pages are in memory that texts have touched."""
    from py3langid import langid  # 0.6 s that `ibid --help` does without

    with tempfile.TemporaryFile() as file, lzma.open(langid.MODEL_DIR / langid.MODEL_FILE) as packed:
        shutil.copyfileobj(packed, file)
        file.seek(0)
        with np.load(file, allow_pickle=False) as model:
            labels = model["classes"].tolist()
            wanted = [place for place, label in enumerate(labels) if label in CODES or label == "nn"]
            weights = _in_file(model["ptc"][:, wanted])
            moves = _in_file(model["nextmove"])
            rows = _in_file(model["nextmove_row"].astype(np.uint32) << 8)
            outputs = _in_file(model["out_feat"].astype(np.int32))
            identifier = langid.LanguageIdentifier(
                weights,
                model["pc"][wanted],
                [labels[place] for place in wanted],
                moves.data,  # indexing it gives an int; one of numpy's would take three times as long
                outputs.data,
                norm_probs=True,
                tk_row=(),
            )
            identifier._rowbase = rows.data
    return identifier


def _in_file(values: NDArray[Any]) -> NDArray[Any]:
    """The same array, read only, in a file without a name."""
    with tempfile.TemporaryFile() as file:
        file.write(values.tobytes())
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, values.dtype).reshape(values.shape)
