"""Measures of ranked lists, and whether the difference of two systems is more than chance."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

_ROUNDS: Final = 10_000
_SEED: Final = 1


def ndcg(ranked: Sequence[str], relevant: Mapping[str, int], *, at: int) -> float:
    """Gain 2^grade - 1, discounted by the logarithm of the rank, of the best that is possible."""
    gained = sum(
        (2 ** relevant.get(item, 0) - 1) / math.log2(rank + 1)
        for rank, item in enumerate(ranked[:at], start=1)
    )
    best = sum(
        (2**grade - 1) / math.log2(rank + 1)
        for rank, grade in enumerate(sorted(relevant.values(), reverse=True)[:at], start=1)
    )
    return gained / best if best else 0.0


def recall(ranked: Sequence[str], relevant: Mapping[str, int], *, at: int) -> float:
    """The part of the relevant items that is among the first."""
    wanted = {item for item, grade in relevant.items() if grade > 0}
    return len(wanted.intersection(ranked[:at])) / len(wanted) if wanted else 0.0


def reciprocal_rank(ranked: Sequence[str], relevant: Mapping[str, int], *, at: int) -> float:
    """One divided by the rank of the first relevant item; 0 when there is none among the first."""
    return next(
        (1 / rank for rank, item in enumerate(ranked[:at], start=1) if relevant.get(item, 0) > 0), 0.0
    )


def p_value(first: Sequence[float], second: Sequence[float]) -> float:
    """Of the two-sided paired randomization test: how often the labels of the systems, swapped at random for each
    question, give a difference of means as large as the one that was seen. Equal inputs give 1.
    """
    differences = np.asarray(second, float) - np.asarray(first, float)
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    seen = abs(differences.sum()) - 1e-12
    random = np.random.default_rng(_SEED)
    extreme = 0
    for _ in range(_ROUNDS // 1000):
        signs = random.choice((-1.0, 1.0), size=(1000, len(differences)))
        extreme += int((np.abs(signs @ differences) >= seen).sum())
    return (extreme + 1) / (_ROUNDS + 1)


def threshold(answerable: Sequence[float], *, false_refusals: float) -> float:
    """The highest threshold below which at most this part of the answerable questions falls."""
    ordered = sorted(answerable)
    return ordered[min(int(false_refusals * len(ordered)), len(ordered) - 1)] if ordered else 0.0
