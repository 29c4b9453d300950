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
    nodes, weights, source, width = [], [], "x", 3
    for i in range(depth):
        weight = rng.standard_normal((channels, width, 3, 3)).astype(np.float32) / (3 * width**0.5)
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(helper.make_node("Conv", [source, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        source, width = f"r{i}", channels
    nodes.append(helper.make_node("GlobalAveragePool", [source], ["y"]))
    graph = helper.make_graph(
        nodes, "net", [declare("x", [batch, 3, size, size])], [declare("y", [batch, channels, 1, 1])], weights
    )
    return bytes(model_of(graph).SerializeToString())


def model_of(graph: GraphProto) -> ModelProto:
    """A model of a graph, of an opset that every runtime reads."""
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model
