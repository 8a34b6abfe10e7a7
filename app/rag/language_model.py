"""py3langid's model on tables in a file: of 55 MB only the pages are in memory that texts have touched.

`classify_all` gives what its own `classify` gives, for many texts in a fifth of the time. The automaton that finds the
features of a text knows no more than the last six bytes, the longest feature there is. So a text is read in blocks side by
side, each from six bytes before it: one step of NumPy reads a byte of every block.
"""

import lzma
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_LONGEST_FEATURE: Final = 6
_BLOCK: Final = 32
_BREAK: Final = b"\xff"
"""A byte that no text has: after it the automaton is where it began."""
_TEXTS_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class Tables:
    """Where the tables are, for another process that inherits the file: it maps what this one has mapped.

    A table is named by its type, its shape and where in the file it begins. The file is this object's for good.
    """

    file: int
    labels: Sequence[str]
    places: Sequence[tuple[str, Sequence[int], int]]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class LanguageModel:
    """The tables of all languages that were asked for, and both ways to use them. Threads may share it."""

    def __init__(self, tables: Tables) -> None:
        from py3langid import langid  # late: `ibid --help` does without

        self.tables = tables
        mapped = mmap.mmap(tables.file, 0, access=mmap.ACCESS_READ)
        weights, self._moves, self._rows, self._outputs, prior = (
            np.frombuffer(mapped, kind, math.prod(shape), start).reshape(shape)
            for kind, shape, start in tables.places
        )
        self._weights = weights
        self._identifier: LanguageIdentifier = langid.LanguageIdentifier(
            weights,
            prior,
            list(tables.labels),
            self._moves.data,  # indexing it gives an int; one of numpy's would take three times as long
            self._outputs.data,
            norm_probs=True,
            tk_row=(),
        )
        self._identifier._rowbase = self._rows.data

    def classify(self, text: str) -> tuple[str, float]:
        """The language of a text and how sure that is, from 0 to 1."""
        label, confidence = self._identifier.classify(text)
        return str(label), float(confidence)

    def classify_all(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """The same of many texts."""
        found: list[tuple[str, float]] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            found += self._classify_some(texts[start : start + _TEXTS_AT_ONCE])
        return found

    def _classify_some(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        encoded = [self._identifier._encode(text) for text in texts]
        features = self._features(_BREAK.join(encoded))
        # One number for each mention of a feature in a text, so that sorting brings them together.
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded)) + len(_BREAK)
        lengths[-1] -= len(_BREAK)
        mentions = np.repeat(np.arange(len(texts)) * len(self._weights), lengths) + features
        mentions = np.sort(mentions[features >= 0])
        firsts = np.flatnonzero(np.diff(mentions, prepend=-1))
        text_of, feature = np.divmod(mentions[firsts], len(self._weights))
        weights = np.log1p(np.diff(firsts, append=len(mentions)).astype(np.float32))
        borders = np.searchsorted(text_of, np.arange(len(texts) + 1)).tolist()
        return [
            self._decide(feature[start:end], weights[start:end], len(encoded[place]))
            for place, (start, end) in enumerate(pairwise(borders))
        ]

    def _features(self, text: bytes) -> NDArray[np.int32]:
        """Which feature ends at each byte, or -1."""
        count = -(-len(text) // _BLOCK)
        padded = np.full(_LONGEST_FEATURE + count * _BLOCK, _BREAK[0], np.uint8)
        padded[_LONGEST_FEATURE : _LONGEST_FEATURE + len(text)] = np.frombuffer(text, np.uint8)
        steps = np.lib.stride_tricks.sliding_window_view(padded, _LONGEST_FEATURE + _BLOCK)[::_BLOCK]
        columns = np.ascontiguousarray(steps.T, np.uint32)
        states = np.zeros(count, np.uint32)
        after = np.empty((_BLOCK, count), np.uint32)
        for place, column in enumerate(columns):
            states = self._moves.take(self._rows.take(states) + column)
            if place >= _LONGEST_FEATURE:
                after[place - _LONGEST_FEATURE] = states
        features: NDArray[np.int32] = self._outputs.take(after.T.ravel()[: len(text)])
        return features

    def _decide(
        self, features: NDArray[np.int64], weights: NDArray[np.float32], size_bytes: int
    ) -> tuple[str, float]:
        """As LanguageIdentifier._decide does."""
        identifier = self._identifier
        if len(features):
            scores = weights @ self._weights[features] + identifier.nb_pc
        else:
            scores = np.zeros(len(identifier.nb_classes), np.float32)
        scores *= 1.0 / math.sqrt(size_bytes or 1)
        np.exp(scores - scores.max(), out=scores)
        scores /= scores.sum()
        for first, double in identifier._alias_pairs:
            scores[first] += scores[double]
            scores[double] = 0.0
        best = int(scores.argmax())
        return identifier.nb_classes[best], float(scores[best])


def unpack(codes: Collection[str]) -> Tables:
    """The tables of these languages in a file of their own, from what is packed in py3langid's wheel (0.6 s)."""
    from py3langid import langid  # late: `ibid --help` does without

    with tempfile.TemporaryFile() as file, lzma.open(langid.MODEL_DIR / langid.MODEL_FILE) as packed:
        shutil.copyfileobj(packed, file)
        file.seek(0)
        with np.load(file, allow_pickle=False) as model:
            labels = model["classes"].tolist()
            wanted = [place for place, label in enumerate(labels) if label in codes]
            return _in_file(_narrowed(model, wanted), [labels[place] for place in wanted])


def _narrowed(model: Mapping[str, NDArray[Any]], wanted: Sequence[int]) -> Iterator[NDArray[Any]]:
    # Half precision would be made single anew for each text, which takes three times as long as all the rest.
    yield np.ascontiguousarray(model["ptc"][:, wanted], np.float32)
    yield model["nextmove"]
    yield model["nextmove_row"].astype(np.uint32) << 8
    yield model["out_feat"].astype(np.int32)
    yield model["pc"][wanted]


def _in_file(tables: Iterator[NDArray[Any]], labels: Sequence[str]) -> Tables:
    """One without a name, open for reading alone: whoever inherits it can't change what is mapped here."""
    places: list[tuple[str, Sequence[int], int]] = []
    with tempfile.NamedTemporaryFile(prefix="ibid-") as file:
        for table in tables:
            places.append((table.dtype.str, table.shape, file.tell()))
            file.write(table.data)
        file.flush()
        return Tables(os.open(file.name, os.O_RDONLY | os.O_CLOEXEC), labels, places)
