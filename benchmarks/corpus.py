"""The texts and questions that are measured with: SQuAD passages from ../shared, as they are and shuffled."""

import hashlib
import importlib.util
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import SHARED, SIMULATOR
from benchmarks.report import Skipped

_FOLDER: Final = SHARED / "eval" / "squad2mini"
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class Passage:
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """`passage_id` answers it, or only looks as if where there are no `answers`."""

    text: str
    passage_id: str
    answers: tuple[str, ...]


@cache
def passages() -> tuple[Passage, ...]:
    """The corpus in its order. Raises Skipped where it is absent."""
    return tuple(Passage(row["_id"], row["text"]) for row in _rows("corpus.jsonl"))


@cache
def answerable() -> tuple[Question, ...]:
    """Questions with the passage that answers them. Raises Skipped where they are absent."""
    lines = (_FOLDER / "qrels.tsv").read_text().splitlines()[1:] if _FOLDER.exists() else []
    passage_of = {question: passage for question, passage, _ in (line.split("\t") for line in lines)}
    return tuple(
        Question(row["text"], passage_of[row["_id"]], tuple(dict.fromkeys(row["answers"])))
        for row in _rows("queries.jsonl")
    )


@cache
def unanswerable() -> tuple[Question, ...]:
    """Questions that their passage is about but does not answer. Raises Skipped where they are absent."""
    return tuple(Question(row["text"], row["context_id"], ()) for row in _rows("unanswerable.jsonl"))


def questions() -> list[str]:
    """All of them, each once, in a fixed random order."""
    texts = [question.text for question in (*answerable(), *unanswerable())]
    random.Random(1).shuffle(texts)
    return texts


def asked_about_first() -> list[Passage]:
    """The passages, those that some question is about before the others."""
    wanted = {question.passage_id for question in (*answerable(), *unanswerable())}
    return sorted(passages(), key=lambda passage: passage.id not in wanted)


def sentences() -> list[str]:
    """Those of all passages, in their order."""
    return [sentence for passage in passages() for sentence in _SENTENCE_END.split(passage.text)]


def many_passages(count: int) -> list[str]:
    """The real passages first, then sentences of all of them shuffled into passages of the same lengths."""
    texts = [passage.text for passage in asked_about_first()]
    pool = [sentence for text in texts for sentence in _SENTENCE_END.split(text)]
    lengths = [len(_SENTENCE_END.split(text)) for text in texts]
    chance = random.Random(2)
    while len(texts) < count:
        texts.append(" ".join(chance.choices(pool, k=chance.choice(lengths))))
    return texts[:count]


def long_texts(count: int, *, size_bytes: int, seed: int) -> list[str]:
    """Distinct texts of about this size, in paragraphs."""
    pool = [passage.text for passage in passages() if len(passage.text) > 200]
    chance = random.Random(seed)
    texts = []
    for _ in range(count):
        paragraphs, size = [f"Report {chance.randrange(10**12)}."], 0
        while size < size_bytes:
            sentences = chance.choices(_SENTENCE_END.split(chance.choice(pool)), k=3)
            paragraphs.append(" ".join([*sentences, f"Item {chance.randrange(10**9)}."]))
            size += len(paragraphs[-1].encode()) + 2
        texts.append("\n\n".join(paragraphs))
    return texts


def hashing_embedder(dims: int) -> Callable[[str], NDArray[np.float32]]:
    """The simulator's own, so that stored vectors and those of its questions are near when they share words."""
    if not SIMULATOR.exists():
        raise Skipped("the provider simulator ../shared/sim/openai_sim.py is absent")
    spec = importlib.util.spec_from_file_location("openai_sim", SIMULATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    embedder: Callable[[str], NDArray[np.float32]] = module.Hasher(dims)
    return embedder


def fingerprint(*files: Path, also: str = "") -> str:
    """A short hash of the corpus, of these files and of a text, to name what was made of them."""
    digest = hashlib.sha256(also.encode())
    for file in (_FOLDER / "corpus.jsonl", *files):
        digest.update(file.read_bytes() if file.exists() else b"")
    return digest.hexdigest()[:16]


def _rows(name: str) -> Iterator[dict[str, Any]]:
    path = _FOLDER / name
    if not path.exists():
        raise Skipped(f"the evaluation set ../shared/eval/squad2mini/{name} is absent")
    with path.open() as lines:
        for line in lines:
            yield json.loads(line)
