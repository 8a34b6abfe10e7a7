"""The local embedding model: the path of a document against onnxruntime alone, by turns over the same chunks.

"Alone" is the bare session on as many threads, of the same priority, over the same batches, tokenised and padded beforehand.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from app.core.chunking import ChunkingPlan
from app.rag import embedding, local_model, splitting
from app.rag.chunking import Page
from benchmarks import corpus
from benchmarks.report import Details, Figure, Report

_PLAN: Final = ChunkingPlan(200, 20)
Inputs = dict[str, Any]


@dataclass(slots=True)
class Side:
    """Seconds of the rounds of one side: by the clock, and of CPU."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def measure(self, run: Callable[[], object]) -> None:
        cpu, started = time.process_time(), time.perf_counter()
        run()
        self.wall.append(time.perf_counter() - started)
        self.cpu.append(time.process_time() - cpu)


def run(*, quick: bool) -> Report:
    rounds = 2 if quick else 5
    text = corpus.long_texts(1, size_bytes=40_000 if quick else 160_000, seed=8)[0]
    texts = [chunk.text for chunk in splitting.split([Page(1, text)], _PLAN)]
    encoder = local_model.load()
    inputs = list(_inputs(encoder, texts))
    ours, alone = Side(), Side()
    with asyncio.Runner() as runner:
        embeddings = embedding.LocalEmbeddings()
        runner.run(embeddings.warm_up())
        with ThreadPoolExecutor(embeddings.threads, initializer=embedding.give_way) as threads:

            def bare() -> None:
                waiting = iter(inputs)
                for done in [threads.submit(_run_all, encoder, waiting) for _ in range(embeddings.threads)]:
                    done.result()

            bare()
            for _ in range(rounds):
                alone.measure(bare)
                ours.measure(lambda: runner.run(embeddings.embed_texts(texts)))
        runner.run(embeddings.aclose())
    report = Report("embeddings")
    table = Details(
        f"{len(texts)} chunks on {embeddings.threads} threads, by turns", ("round", "alone /s", "ours /s")
    )
    for number, (one, other) in enumerate(zip(alone.wall, ours.wall, strict=True), start=1):
        table.rows.append((number, len(texts) / one, len(texts) / other))
    report.details.append(table)
    report.figures.extend(
        [
            Figure("local embeddings", len(texts) / min(ours.wall), "chunks/s"),
            Figure(
                "of what onnxruntime alone reaches", 100 * min(alone.wall) / min(ours.wall), "%", at_least=90
            ),
            Figure("the same by CPU", 100 * sum(alone.cpu) / sum(ours.cpu), "%", at_least=90),
        ]
    )
    return report


def _inputs(encoder: local_model.SentenceEncoder, texts: list[str]) -> Iterator[Inputs]:
    """What the network is given, batch by batch, as the encoder makes it."""
    token_ids = [ids for parts in encoder.tokenize_whole(texts) for ids in parts]
    for batch in encoder.batches(token_ids):
        rows = [token_ids[place] for place in batch]
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        yield {"input_ids": ids, "attention_mask": mask}


def _run_all(encoder: local_model.SentenceEncoder, inputs: Iterator[Inputs]) -> None:
    for batch in inputs:
        encoder.session.run(["embedding"], batch)
