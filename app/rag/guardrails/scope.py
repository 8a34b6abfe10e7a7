"""Whether a question is about the topics of a bot: by its vector, before anything is searched.

A topic is the vectors of its description and of its examples. How near a question must be depends on the embedding model and
on the topic, so it is measured: questions about anything (`PROBES`) say how near one comes to the topic by chance, the topic's
own examples how far its questions are from each other. Between the two a question is doubtful, and a model may be asked.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.bots import Topic

Vectors = NDArray[np.float32]

PROBES: Final = (
    "How do I remove red wine from a carpet?",
    "What is the capital of Australia?",
    "How many eggs go into a carbonara for four people?",
    "Who won the football world cup in 1998?",
    "Which formula sums only the visible rows of a spreadsheet?",
    "How often should a cactus be watered?",
    "What is the refund policy for cancelled flights?",
    "How do I train a puppy not to bite?",
    "Explain the theory of relativity in simple words.",
    "Write a poem about the sea.",
    "What are the symptoms of the flu?",
    "Which stocks should I buy this year?",
    "How do I reset the password of my router?",
    "How much does a gym membership cost?",
    "Who should I vote for in the election?",
    "Can you recommend a film for tonight?",
    "How do I tie a double Windsor knot?",
    "What is the weather like tomorrow?",
    "How do I write a cover letter?",
    "What does segmentation fault mean in C?",
    "How long should bread dough be kneaded?",
    "When was the French Revolution?",
    "What is the boiling point of water at high altitude?",
    "How do I renew my driving licence?",
    "Which chess opening should a beginner learn?",
    "Tell me a joke.",
    "What is the meaning of life?",
    "How do I change the strings of a guitar?",
    "Apakah resipi nasi lemak yang sedap?",
    "Siapakah pemenang Piala Dunia?",
    "Bagaimana cara memperbaiki sepeda motor?",
    "¿Cómo se dice buenos días en japonés?",
)
"""About what most people ask and few bots are for."""

_DEVIATIONS: Final = 2.5
_LEAST: Final = 0.12
_MOST: Final = 0.5
_DOUBT: Final = 0.1
"""In cosine: so far below what is needed a question may still be about the topic."""
_MOST_JUDGES: Final = 256


class Verdict(Enum):
    INSIDE = "inside"
    DOUBTFUL = "doubtful"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class _Measured:
    vectors: Vectors
    needed: float

    def score(self, question: Vectors) -> float:
        """How far a question is above (or below) what it takes to be about the topic."""
        return float((self.vectors @ question).max()) - self.needed


class Judge:
    """Says whether questions are within the topics of one version of a bot."""

    def __init__(self, inside: Sequence[Vectors], outside: Sequence[Vectors], probes: Vectors) -> None:
        probes = _normalized(probes)
        self._inside = [_measured(_normalized(vectors), probes) for vectors in inside]
        self._outside = [_measured(_normalized(vectors), probes) for vectors in outside]

    def judge(self, question: Sequence[float], *, understood: bool = True) -> Verdict:
        """`understood` is whether the embedding model knows the question's language: without, nothing is sure."""
        vector = _normalized(np.asarray([question], np.float32))[0]
        wanted = max((topic.score(vector) for topic in self._inside), default=None)
        unwanted = max((topic.score(vector) for topic in self._outside), default=-1.0)
        if unwanted >= 0 and (wanted is None or unwanted > wanted):
            return Verdict.OUTSIDE
        if wanted is not None and wanted < 0:
            return Verdict.OUTSIDE if understood and wanted < -_DOUBT else Verdict.DOUBTFUL
        if unwanted >= -_DOUBT and (wanted is None or unwanted > wanted - _DOUBT):
            return Verdict.DOUBTFUL
        return Verdict.INSIDE


class Judges:
    """The judges made so far, of the versions asked last."""

    def __init__(self) -> None:
        self._made: OrderedDict[object, Judge] = OrderedDict()

    def get(self, key: object) -> Judge | None:
        judge = self._made.get(key)
        if judge is not None:
            self._made.move_to_end(key)
        return judge

    def add(self, key: object, judge: Judge) -> None:
        self._made[key] = judge
        while len(self._made) > _MOST_JUDGES:
            self._made.popitem(last=False)


def texts_of(topic: Topic) -> list[str]:
    """What of a topic is embedded."""
    return [topic.description, *topic.examples]


def _measured(vectors: Vectors, probes: Vectors) -> _Measured:
    by_chance = (probes @ vectors.T).max(axis=1)
    middle = float(np.median(by_chance))
    spread = 1.4826 * float(np.median(np.abs(by_chance - middle)))
    needed = middle + _DEVIATIONS * spread
    if len(vectors) > 2:
        # The description is no question; its examples are, and each should be found by the others.
        among = vectors[1:] @ vectors.T
        among[np.arange(len(among)), np.arange(1, len(vectors))] = -1.0
        needed = min(needed, float(np.median(among.max(axis=1))))
    return _Measured(vectors, min(max(needed, _LEAST), _MOST))


def _normalized(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalized: Vectors = (vectors / np.maximum(lengths, 1e-9)).astype(np.float32)
    return normalized
