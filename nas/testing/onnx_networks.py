"""Small ONNX models for tests."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

Shape = list[int | str | None]


def declare(name: str, shape: Shape, kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def conv_net(channels: int = 8, depth: int = 2, *, size: int | str = 16, batch: int | str = "batch") -> bytes:
    """`depth` 3 x 3 convolutions on (batch, 3, size, size); the input is named ``x``."""
    rng = np.random.default_rng(0)
    nodes, weights, at, width = [], [], "x", 3
    for i in range(depth):
        weight = rng.standard_normal((channels, width, 3, 3)).astype(np.float32) / (3 * width**0.5)
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(helper.make_node("Conv", [at, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        at, width = f"r{i}", channels
    nodes.append(helper.make_node("GlobalAveragePool", [at], ["y"]))
    graph = helper.make_graph(
        nodes, "net", [declare("x", [batch, 3, size, size])], [declare("y", [batch, channels, 1, 1])], weights
    )
    return bytes(_model(graph).SerializeToString())


def sentence_net(width: int = 32) -> bytes:
    """One step of attention over token ids ``ids`` (batch, length), int64, of ten words: its cost grows with the square."""
    table = numpy_helper.from_array(np.random.default_rng(0).standard_normal((10, width)).astype(np.float32), "table")
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("Transpose", ["words"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["words", "turned"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "words"], ["mixed"]),
        helper.make_node("ReduceMean", ["mixed"], ["y"], axes=[1], keepdims=0),
    ]
    ids = declare("ids", ["batch", "length"], TensorProto.INT64)
    graph = helper.make_graph(nodes, "sentence", [ids], [declare("y", ["batch", width])], [table])
    return bytes(_model(graph).SerializeToString())


def identity(*inputs: ValueInfoProto) -> ModelProto:
    """Every input through an Identity node."""
    nodes = [helper.make_node("Identity", [value.name], [f"{value.name}-out"]) for value in inputs]
    outputs = []
    for value in inputs:
        output = ValueInfoProto()
        output.CopyFrom(value)
        output.name = f"{value.name}-out"
        outputs.append(output)
    return _model(helper.make_graph(nodes, "identity", list(inputs), outputs))


def endless() -> bytes:
    """A loop whose condition, its input ``x`` (1,), never turns false."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go-on"]), helper.make_node("Identity", ["seen"], ["seen-on"])],
        "body",
        [
            declare("i", [], TensorProto.INT64),
            declare("go", [], TensorProto.BOOL),
            declare("seen", [1]),
        ],
        [declare("go-on", [], TensorProto.BOOL), declare("seen-on", [1])],
    )
    true = numpy_helper.from_array(np.array(True), "true")
    nodes = [helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)]
    graph = helper.make_graph(nodes, "endless", [declare("x", [1])], [declare("y", [1])], [true])
    return bytes(_model(graph).SerializeToString())


def _model(graph: GraphProto) -> ModelProto:
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model
