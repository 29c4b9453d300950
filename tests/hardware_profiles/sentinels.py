"""Builds the sentinels: a fixed network that every session times twice, a small one, and a call of nearly no work.

``python -m tests.hardware_profiles.sentinels`` writes them into ``hardware_profiles/data``.
Latencies of sentinels are comparable only while the files stay the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def build_small() -> bytes:
    """Serialised ONNX: a residual network of four bottlenecks on 14 × 14 and 7 × 7 pixels, batch 1, fixed weights.

    It has the layers of the smallest networks that a search meets, of which each takes about as long as its call.
    """
    layers = _Layers()
    at = "input"
    for out, own, stride in ((8, 1, 2), (8, 8, 1), (16, 8, 1)):
        at = layers.conv(at, out, own, size=3, stride=stride)
    at = layers.bottleneck(at, (16, 16, 48), shortcut=True)
    at = layers.bottleneck(at, (48, 16, 48))
    at = layers.bottleneck(at, (48, 24, 48), stride=2, shortcut=True)
    at = layers.bottleneck(at, (48, 48, 96), shortcut=True)
    layers.add("GlobalAveragePool", [at], "output")
    return _serialised("small sentinel", layers.nodes, (1, 1, 28, 28), layers.weights, output=(1, 96, 1, 1))


class _Layers:
    """Nodes and weights in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, operator: str, given: Sequence[str], out: str, **attributes: Any) -> str:
        """The name of the output."""
        self.nodes.append(helper.make_node(operator, list(given), [out], **attributes))
        return out

    def conv(self, at: str, out: int, own: int, *, size: int = 1, stride: int = 1, relu: bool = True) -> str:
        """A convolution with as many pixels as before, divided by the stride."""
        n, shape = len(self.nodes), (out, own, size, size)
        grid = (np.arange(np.prod(shape), dtype=np.int64) + n) * 7919 % 1013
        weight = ((grid - 506) / 506 * np.sqrt(6 / (own * size * size))).astype(np.float32).reshape(shape)
        self.weights.append(numpy_helper.from_array(weight, f"weight{n}"))
        pads, strides = [size // 2] * 4, [stride, stride]
        made = self.add("Conv", [at, f"weight{n}"], f"conv{n}", kernel_shape=[size, size], pads=pads, strides=strides)
        return self.add("Relu", [made], f"relu{n}") if relu else made

    def bottleneck(self, at: str, widths: tuple[int, int, int], *, stride: int = 1, shortcut: bool = False) -> str:
        """1 × 1, 3 × 3, 1 × 1, and the sum with the input or its projection."""
        own, inner, out = widths
        made = self.conv(at, inner, own)
        made = self.conv(made, inner, inner, size=3, stride=stride)
        made = self.conv(made, out, inner, relu=False)
        if stride > 1:
            at = self.add("AveragePool", [at], f"pool{len(self.nodes)}", kernel_shape=[2, 2], strides=[2, 2])
        if shortcut:
            at = self.conv(at, out, own, relu=False)
        return self.add("Relu", [self.add("Add", [made, at], f"sum{len(self.nodes)}")], f"block{len(self.nodes)}")


def _serialised(
    name: str, nodes: Sequence[onnx.NodeProto], shape: Sequence[int], initializers: Sequence[onnx.TensorProto],
    *, output: Sequence[int] = (),
) -> bytes:  # fmt: skip
    shapes = {"input": shape, "output": output or shape}
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(own)) for n, own in shapes.items()]
    graph = helper.make_graph(list(nodes), name, ends[:1], ends[1:], list(initializers))
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="sentinel")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    folder = Path(hardware_profiles.__file__).parent / "data"
    (folder / "sentinel.onnx").write_bytes(build_sentinel())
    (folder / "small.onnx").write_bytes(build_small())
    (folder / "call.onnx").write_bytes(build_call())
