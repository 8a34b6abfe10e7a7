"""The local cross-encoder, on a tiny model made here: a passage scores the share of its tokens that are the word `gold`."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, pre_tokenizers

from app.rag.cross_encoder import CrossEncoder, CrossEncoderError

VOCABULARY = {"[UNK]": 0, "gold": 1, "sand": 2, "where": 3}


def write_model(folder: Path, *, outputs: int = 1) -> Path:
    """logits = the number of tokens whose id is 1, in `outputs` columns of which only the last counts."""
    nodes = [
        helper.make_node("Equal", ["input_ids", "one"], ["is_gold"]),
        helper.make_node("Cast", ["is_gold"], ["counted"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["counted", "axis"], ["sum"], keepdims=1),
        helper.make_node("MatMul", ["sum", "columns"], ["logits"]),
    ]
    columns = [0.0] * (outputs - 1) + [1.0]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "m"]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["n", "m"]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", outputs])],
        [
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
            helper.make_tensor("columns", TensorProto.FLOAT, [1, outputs], columns),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("outputs", [1, 2])
async def test_passages_are_scored_in_their_order_whatever_their_lengths(
    tmp_path: Path, outputs: int
) -> None:
    encoder = CrossEncoder(write_model(tmp_path, outputs=outputs))

    texts = ["sand", "gold gold gold", "sand " * 900, "sand gold", *["gold"] * 40]
    scores = await encoder.scores("where", texts)

    assert scores == [0.0, 3.0, 0.0, 1.0, *[1.0] * 40]
    encoder.close()


async def test_a_question_longer_than_the_model_reads_is_cut(tmp_path: Path) -> None:
    encoder = CrossEncoder(write_model(tmp_path))

    first, second = await encoder.scores("where " * 2000, ["gold " * 2000, "sand"])

    assert first > second
    encoder.close()


async def test_a_folder_without_a_usable_model_is_an_error_of_ours(tmp_path: Path) -> None:
    encoder = CrossEncoder(tmp_path)
    with pytest.raises(CrossEncoderError):
        await encoder.scores("where", ["gold"])
    encoder.close()

    write_model(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"no model")
    encoder = CrossEncoder(tmp_path)
    with pytest.raises(CrossEncoderError):
        await encoder.scores("where", ["gold"])
    encoder.close()
