"""Small ONNX models for tests, beside `conv_net`."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from nas.plugins.testing.onnx_networks import declare, model_of


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
    return bytes(model_of(graph).SerializeToString())


def identity(*inputs: ValueInfoProto) -> ModelProto:
    """Every input through an Identity node."""
    nodes = [helper.make_node("Identity", [value.name], [f"{value.name}-out"]) for value in inputs]
    outputs = []
    for value in inputs:
        output = ValueInfoProto()
        output.CopyFrom(value)
        output.name = f"{value.name}-out"
        outputs.append(output)
    return model_of(helper.make_graph(nodes, "identity", list(inputs), outputs))


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
    return bytes(model_of(graph).SerializeToString())
