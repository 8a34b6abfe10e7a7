"""Vectors as real texts have them: sentences embedded by the local model, and mixtures of near ones for larger numbers.

Hashed or random vectors are no test of a graph index: all of them are about equally far from each other.
"""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.rag import local_model
from benchmarks import corpus, seeding

_EMBEDDED: Final = 12_000
_NEIGHBOURS: Final = 8
_NOISE: Final = 0.2
"""The length of the noise beside a mixture's 1."""

_BLOCK: Final = 2_000

Vectors = NDArray[np.float32]


def sentences() -> Vectors:
    """(12,000, 384) unit vectors of sentences of the corpus; embedded once, in about two minutes, and kept."""
    texts = list(dict.fromkeys(corpus.sentences()))
    random.Random(4).shuffle(texts)
    key = corpus.fingerprint(Path(__file__))
    cache = seeding.cache("vectors", key)
    file = cache.folder / "sentences.npy"
    if not cache.is_filled:
        np.save(file, _embedded(texts[:_EMBEDDED]))
        cache.mark_filled()
    vectors: Vectors = np.load(file)
    return vectors


def questions(texts: list[str]) -> Vectors:
    """(len(texts), 384) unit vectors."""
    return _embedded(texts)


def stream(seed: int) -> Iterator[Vectors]:
    """Blocks of unit vectors without end: the sentences' own, then points between a sentence and one near to it."""
    own = sentences()
    chance = np.random.default_rng(seed)
    yield from (own[start : start + _BLOCK] for start in range(0, len(own), _BLOCK))
    near = _neighbours(own)
    while True:
        first = chance.integers(len(own), size=_BLOCK)
        second = near[first, chance.integers(_NEIGHBOURS, size=_BLOCK)]
        share = chance.uniform(0.1, 0.9, size=(_BLOCK, 1)).astype(np.float32)
        noise = chance.standard_normal((_BLOCK, own.shape[1]), dtype=np.float32)
        noise *= _NOISE / np.linalg.norm(noise, axis=1, keepdims=True)
        mixed = share * own[first] + (1 - share) * own[second]
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        yield _unit(mixed + noise)


def _embedded(texts: list[str]) -> Vectors:
    encoder = local_model.load()
    ordered = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    vectors = np.empty((len(texts), local_model.DIMENSION), np.float32)
    parts = [ordered[start : start + 64] for start in range(0, len(ordered), 64)]
    with ThreadPoolExecutor(2) as threads:
        for part, found in zip(
            parts, threads.map(lambda part: encoder.encode([texts[i] for i in part]), parts), strict=True
        ):
            vectors[part] = found
    return vectors


def _neighbours(own: Vectors) -> NDArray[np.int64]:
    near = np.empty((len(own), _NEIGHBOURS), np.int64)
    for start in range(0, len(own), _BLOCK):
        similar = own[start : start + _BLOCK] @ own.T
        np.put_along_axis(similar, np.arange(start, start + len(similar))[:, None], -1, axis=1)
        near[start : start + _BLOCK] = np.argpartition(-similar, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
    return near


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
