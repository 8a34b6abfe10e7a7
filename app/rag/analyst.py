"""One process that cuts and analyses texts: its `main` runs in a child, its other half reads and writes what they exchange.

The two exchange frames: a line of JSON and as many bytes as it says. There are texts in one direction and numbers in the
other, so a child that a text has broken into can at worst spoil that text's chunks. The child imports neither LlamaIndex
nor SQLAlchemy nor the settings, has an empty environment, and ends with the pipe to its parent.
"""

import json
import os
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from app.core.chunking import ChunkingPlan, Splitter
from app.core.retrieval import TERM_DIMENSION, WeighedTerms
from app.rag import analysis, languages
from app.rag.analysis import Cut, Task
from app.rag.chunking import Chunk, Page
from app.rag.language_model import Tables

READY: Final = b"ready\n"
_NICENESS: Final = 10
_COLUMNS: Final = (np.int64, np.int64, np.int64, np.int64)
"""Of each chunk: the place of its page, start, end, and the number of its terms."""


class BrokenAnswer(Exception):
    """What came back is no analysis of the text."""


def as_frame(task: Task) -> bytes:
    """A task for the child."""
    texts = [page.text.encode("utf-8", "surrogatepass") for page in task.pages]
    head = {
        "size_bytes": sum(map(len, texts)),
        "pages": [(page.number, len(text)) for page, text in zip(task.pages, texts, strict=True)],
        "plan": (task.plan.size_tokens, task.plan.overlap_tokens, task.plan.splitter),
        "headings": list((task.headings or {}).items()),
        "fixed_language": task.fixed_language,
        "title": task.title,
    }
    return b"".join((json.dumps(head).encode(), b"\n", *texts))


def read_answer(task: Task, head: dict[str, Any], body: bytes) -> Cut:
    """The chunks of the task's own pages that the child found. Raises BrokenAnswer."""
    try:
        count, spoken = (
            int(head["chunks"]),
            [str(language) for language, times in head["languages"] for _ in range(times)],
        )
        columns = np.frombuffer(body, np.int64, count * len(_COLUMNS)).reshape(len(_COLUMNS), count)
        total = int(columns[3].sum())
        numbers = np.frombuffer(body, np.int32, total, columns.nbytes)
        weights = np.frombuffer(body, np.float32, total, columns.nbytes + numbers.nbytes)
        if len(spoken) != count or (total and not 0 < numbers.min() <= numbers.max() <= TERM_DIMENSION):
            raise BrokenAnswer
        headings = [path for path, times in head["headings"] for _ in range(times)]
        if len(headings) != count or not all(path is None or isinstance(path, str) for path in headings):
            raise BrokenAnswer
        found = Cut([], headings, spoken, [])
        last = 0
        for place, start, end, terms in columns.T.tolist():
            page = task.pages[place]
            if not 0 <= start < end <= len(page.text):
                raise BrokenAnswer
            found.chunks.append(Chunk(len(found.chunks), page.number, start, end, page.text[start:end]))
            found.terms.append(WeighedTerms(numbers[last : last + terms], weights[last : last + terms]))
            last += terms
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BrokenAnswer from error
    return found


def main() -> None:
    """Answer tasks until there are no more. The last argument says where the parent's tables of languages are, if anywhere."""
    os.nice(_NICENESS)
    tasks, answers = sys.stdin.buffer, sys.stdout.buffer
    tables = json.loads(sys.argv[-1])
    if tables is not None:
        languages.adopt(Tables(**tables))
    _warm_up(None if tables else languages.UNKNOWN)
    answers.write(READY)
    answers.flush()
    while line := tasks.readline():
        task, places = _read_task(json.loads(line), tasks)
        answers.writelines(_answer(analysis.cut(task), places))
        answers.flush()


def _warm_up(fixed_language: str | None) -> None:
    """Load what loads lazily, so that the first text does not wait for it."""
    text = "Everything that is loaded when it is first needed. Todo lo que se carga cuando hace falta. " * 9
    analysis.cut(Task([Page(1, text)], ChunkingPlan(64, 0), fixed_language=fixed_language))


def _read_task(head: dict[str, Any], tasks: BinaryIO) -> tuple[Task, dict[int, int]]:
    pages = [
        Page(number, tasks.read(size_bytes).decode("utf-8", "surrogatepass"))
        for number, size_bytes in head["pages"]
    ]
    size_tokens, overlap_tokens, splitter = head["plan"]
    task = Task(
        pages,
        ChunkingPlan(size_tokens, overlap_tokens, Splitter(splitter)),
        {number: [(start, end, level) for start, end, level in spans] for number, spans in head["headings"]},
        head["fixed_language"],
        head["title"],
    )
    return task, {page.number: place for place, page in enumerate(pages)}


def _answer(found: Cut, places: dict[int, int]) -> Sequence[bytes | memoryview]:
    columns: NDArray[np.int64] = np.array(
        [
            [places[chunk.page] for chunk in found.chunks],
            [chunk.start for chunk in found.chunks],
            [chunk.end for chunk in found.chunks],
            [len(terms.numbers) for terms in found.terms],
        ],
        np.int64,
    )
    numbers = [terms.numbers.tobytes() for terms in found.terms]
    weights = [terms.weights.tobytes() for terms in found.terms]
    head = {
        "size_bytes": columns.nbytes + sum(map(len, numbers)) + sum(map(len, weights)),
        "chunks": len(found.chunks),
        "headings": [(path, len(list(run))) for path, run in groupby(found.headings)],
        "languages": [(language, len(list(run))) for language, run in groupby(found.chunk_languages)],
    }
    return (json.dumps(head).encode(), b"\n", columns.tobytes(), *numbers, *weights)


if __name__ == "__main__":
    main()
