"""Small ONNX files of given nodes for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

N = "n"
"""A dynamic batch."""


def model_of(
    nodes: Sequence[NodeProto],
    shape: Sequence[int | str],
    constants: Mapping[str, NDArray[Any]] | None = None,
    *,
    opset: int = 18,
    outputs: Sequence[str] = ("y",),
    kind: int = TensorProto.FLOAT,
) -> ModelProto:
    """A model of nodes from the input ``x`` to ``y``."""
    graph = helper.make_graph(
        list(nodes),
        "network",
        [helper.make_tensor_value_info("x", kind, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=11 if opset > 22 else 8)


def write(path: Path, model: ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def classifier(size: int = 8, classes: int = 10) -> ModelProto:
    """A classifier of square grey images, which ends with a softmax."""
    nodes = [
        helper.make_node("Conv", ["x", "stem.weight"], ["c"], name="/stem/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="/Relu"),
        helper.make_node("Conv", ["r", "body.weight"], ["d"], name="/body/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["d"], ["p"], name="/pool/GlobalAveragePool"),
        helper.make_node("Flatten", ["p"], ["f"], name="/Flatten"),
        helper.make_node("Gemm", ["f", "head.weight"], ["l"], name="/head/Gemm", transB=1),
        helper.make_node("Softmax", ["l"], ["y"], name="/Softmax", axis=-1),
    ]
    weights = {
        "stem.weight": random(16, 1, 3, 3),
        "body.weight": random(24, 16, 3, 3),
        "head.weight": random(classes, 24),
    }
    return model_of(nodes, [N, 1, size, size], weights)


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
