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


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
