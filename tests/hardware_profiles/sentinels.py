"""Builds the sentinels: a small fixed network that every session times twice, and a call of nearly no work.

``python -m tests.hardware_profiles.sentinels`` writes ``sentinel.onnx`` and ``call.onnx`` into ``hardware_profiles/data``.
Latencies of sentinels are comparable only while the files stay the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import hardware_profiles

CHANNELS, SIZE, LAYERS = 16, 32, 8


def build_sentinel() -> bytes:
    """Serialised ONNX: eight 3 × 3 convolutions of 16 channels with ReLU on 32 × 32 pixels, batch 1, fixed weights."""
    shape = (CHANNELS, CHANNELS, 3, 3)
    # Arithmetic on whole numbers gives the same weights everywhere; a random generator's stream may change.
    grid = np.arange(np.prod(shape) * LAYERS, dtype=np.int64) * 7919 % 1013
    weights = ((grid - 506) / np.float64(506 * 6)).astype(np.float32).reshape(LAYERS, *shape)
    nodes, initializers, at = [], [], "input"
    for i, weight in enumerate(weights):
        initializers.append(numpy_helper.from_array(weight, f"weight{i}"))
        nodes.append(helper.make_node("Conv", [at, f"weight{i}"], [f"conv{i}"], pads=[1, 1, 1, 1]))
        at = "output" if i == LAYERS - 1 else f"relu{i}"
        nodes.append(helper.make_node("Relu", [f"conv{i}"], [at]))
    return _serialised("sentinel", nodes, (1, CHANNELS, SIZE, SIZE), initializers)


def build_call() -> bytes:
    """Serialised ONNX: the negative of one number, so that a run takes the time of the call itself."""
    return _serialised("call", [helper.make_node("Neg", ["input"], ["output"])], (1, 1), [])


def _serialised(
    name: str, nodes: Sequence[onnx.NodeProto], shape: Sequence[int], initializers: Sequence[onnx.TensorProto]
) -> bytes:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(shape)) for n in ("input", "output")]
    graph = helper.make_graph(list(nodes), name, ends[:1], ends[1:], list(initializers))
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="sentinel")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    folder = Path(hardware_profiles.__file__).parent / "data"
    (folder / "sentinel.onnx").write_bytes(build_sentinel())
    (folder / "call.onnx").write_bytes(build_call())
