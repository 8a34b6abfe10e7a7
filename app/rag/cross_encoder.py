"""A cross-encoder on onnxruntime: a model that reads question and passage together, from a folder of the operator's.

The folder has `model.onnx` and `tokenizer.json`, as exported by Optimum for sequence classification.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.rag.errors import RagError

MODEL: Final = "model.onnx"
TOKENIZER: Final = "tokenizer.json"
_MAX_TOKENS: Final = 512
_BATCH_TOKENS: Final = 2_048
_QUESTION_CHARACTERS: Final = 1_000
_PASSAGE_CHARACTERS: Final = 4_000
_NICE: Final = 10


class CrossEncoderError(RagError):
    """The local cross-encoder can't be used."""


class CrossEncoder:
    """Scores of passages for a question, on a thread of its own that leaves the processor to others first.

    Nothing is loaded before the first question. Cancelling ends with the running batch.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rerank", initializer=_be_nice)
        self._loaded: tuple[Any, Any, frozenset[str]] | None = None

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """One for each text, higher is better. Raises CrossEncoderError."""
        loop = asyncio.get_running_loop()
        pairs = await loop.run_in_executor(self._thread, self._tokenized, question, texts)
        scores = [0.0] * len(texts)
        for batch in _batches([len(pair.ids) for pair in pairs]):
            found = await loop.run_in_executor(self._thread, self._run, [pairs[place] for place in batch])
            for place, score in zip(batch, found, strict=True):
                scores[place] = score
        return scores

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _tokenized(self, question: str, texts: Sequence[str]) -> list[Any]:
        _, tokenizer, _ = self._load()
        asked = question[:_QUESTION_CHARACTERS]
        encoded: list[Any] = tokenizer.encode_batch_fast(
            [(asked, text[:_PASSAGE_CHARACTERS]) for text in texts]
        )
        return encoded

    def _run(self, pairs: Sequence[Any]) -> list[float]:
        session, _, inputs = self._load()
        longest = max(len(pair.ids) for pair in pairs)
        given = {
            name: np.zeros((len(pairs), longest), np.int64)
            for name in ("input_ids", "attention_mask", "token_type_ids")
        }
        for row, pair in enumerate(pairs):
            length = len(pair.ids)
            given["input_ids"][row, :length] = pair.ids
            given["attention_mask"][row, :length] = 1
            given["token_type_ids"][row, :length] = pair.type_ids
        try:
            logits, *_ = session.run(None, {name: given[name] for name in given if name in inputs})
        except Exception as error:  # onnxruntime's own kinds have no common base
            raise CrossEncoderError(f"{self._folder / MODEL} can't be run") from error
        return _scores(np.asarray(logits), len(pairs))

    def _load(self) -> tuple[Any, Any, frozenset[str]]:
        if self._loaded is None:
            os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
            # Both are for those who have a model alone.
            import onnxruntime  # type: ignore[import-untyped]
            from tokenizers import Tokenizer

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            try:
                tokenizer = Tokenizer.from_file(str(self._folder / TOKENIZER))
                session = onnxruntime.InferenceSession(
                    str(self._folder / MODEL), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # neither library has a base for what a broken file raises
                raise CrossEncoderError(f"{self._folder} has no usable {MODEL} and {TOKENIZER}") from error
            tokenizer.no_padding()
            tokenizer.enable_truncation(_MAX_TOKENS, strategy="longest_first")
            self._loaded = session, tokenizer, frozenset(each.name for each in session.get_inputs())
        return self._loaded


def _scores(logits: NDArray[Any], count: int) -> list[float]:
    """Of models with one output, and of those with two, of which the last means relevant. Raises CrossEncoderError."""
    if logits.ndim not in (1, 2) or len(logits) != count or not np.isfinite(logits).all():
        raise CrossEncoderError("the model's output is no score for each passage")
    scores: list[float] = (logits if logits.ndim == 1 else logits[:, -1]).astype(float).tolist()
    return scores


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions, shortest first, in groups of a bounded number of tokens with their padding."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if batch and (len(batch) + 1) * lengths[place] > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _be_nice() -> None:
    with contextlib.suppress(OSError, AttributeError):  # a courtesy, and Linux's alone
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
