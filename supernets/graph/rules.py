"""Lowering rules for plain torch modules, one per type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from supernets.errors import LoweringError
from supernets.graph import functions
from supernets.graph.ir import Attribute, Graph, Value
from supernets.graph.trace import join

Rule = Callable[[Graph, Any, str, Value], Value]
"""Appends a module's nodes: (graph, module, path, input) -> output."""


def _own(graph: Graph, module: nn.Module, path: str, name: str) -> Value | None:
    """A parameter or buffer of the module, or None."""
    tensor = getattr(module, name)
    return None if tensor is None else graph.parameter(join(path, name), tensor)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    # Torch accepts numpy's integers, ONNX does not.
    return (int(value[0]), int(value[1])) if isinstance(value, Sequence) else (int(value), int(value))


def _shape_mismatch(module: nn.Module, path: str, expected: str, x: Value) -> LoweringError:
    problem = f"{path or 'the network'} ({type(module).__name__}) expects {expected}, got the shape {x.shape}"
    return LoweringError(problem, code="export.shape-mismatch")


def _check_image(module: nn.Module, path: str, x: Value) -> None:
    if x.rank != 4:
        raise _shape_mismatch(module, path, "4 dimensions", x)


def _conv_pads(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """Padding at the top, left, bottom and right."""
    if not isinstance(conv.padding, str):
        (top, left) = _pair(conv.padding)
        return (top, left, top, left)
    if conv.padding == "valid":
        return (0, 0, 0, 0)
    totals = [d * (k - 1) for d, k in zip(_pair(conv.dilation), _pair(conv.kernel_size), strict=True)]
    before = [total // 2 for total in totals]
    return (before[0], before[1], totals[0] - before[0], totals[1] - before[1])


def _conv2d(graph: Graph, conv: nn.Conv2d, path: str, x: Value) -> Value:
    _check_image(conv, path, x)
    if conv.padding_mode != "zeros":
        raise LoweringError(f"there is no rule for Conv2d(padding_mode={conv.padding_mode!r}); use 'zeros'")
    if x.shape[1] != conv.in_channels:
        raise _shape_mismatch(conv, path, f"{conv.in_channels} channels", x)
    kernel, stride, dilation = _pair(conv.kernel_size), _pair(conv.stride), _pair(conv.dilation)
    pads = _conv_pads(conv)
    sides = [
        (x.shape[2 + i] + pads[i] + pads[i + 2] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)
    ]
    weight, bias = _own(graph, conv, path, "weight"), _own(graph, conv, path, "bias")
    return graph.add(
        "Conv", [x, weight] if bias is None else [x, weight, bias], (x.shape[0], int(conv.out_channels), *sides),
        kernel_shape=kernel, strides=stride, dilations=dilation, pads=pads, group=int(conv.groups),
    )  # fmt: skip


def _linear(graph: Graph, linear: nn.Linear, path: str, x: Value) -> Value:
    if x.rank < 2 or x.shape[-1] != linear.in_features:
        raise _shape_mismatch(linear, path, f"{linear.in_features} features", x)
    weight, bias = _own(graph, linear, path, "weight"), _own(graph, linear, path, "bias")
    assert weight is not None
    return functions.linear(graph, x, weight, bias)


def _batch_norm(graph: Graph, norm: nn.BatchNorm2d, path: str, x: Value) -> Value:
    mean, variance = _own(graph, norm, path, "running_mean"), _own(graph, norm, path, "running_var")
    if mean is None or variance is None:
        problem = f"{path or type(norm).__name__} has no running statistics, so that its outputs depend on the batch"
        raise LoweringError(problem, code="export.dynamic-dimension")
    scale, shift = _own(graph, norm, path, "weight"), _own(graph, norm, path, "bias")
    scale = scale or graph.constant(np.ones(mean.shape, dtype=np.float32))
    shift = shift or graph.constant(np.zeros(mean.shape, dtype=np.float32))
    return graph.add("BatchNormalization", [x, scale, shift, mean, variance], x.shape, epsilon=float(norm.eps))


def _layer_norm(graph: Graph, norm: nn.LayerNorm, path: str, x: Value) -> Value:
    shape = tuple(norm.normalized_shape)
    scale, shift = _own(graph, norm, path, "weight"), _own(graph, norm, path, "bias")
    scale = scale or graph.constant(np.ones(shape, dtype=np.float32))
    inputs = [x, scale] if shift is None else [x, scale, shift]
    return graph.add("LayerNormalization", inputs, x.shape, axis=-len(shape), epsilon=float(norm.eps))


def _rms_norm(graph: Graph, norm: nn.RMSNorm, path: str, x: Value) -> Value:
    """In the operations that runtimes recognise and replace by one; this opset has none."""
    if len(norm.normalized_shape) != 1:
        raise LoweringError(
            f"there is no rule for RMSNorm over {len(norm.normalized_shape)} dimensions; use the last alone"
        )
    scale, epsilon = _own(graph, norm, path, "weight"), torch.finfo(torch.float32).eps if norm.eps is None else norm.eps
    squares = graph.add(
        "ReduceMean",
        [graph.add("Pow", [x, graph.scalar(2.0)], x.shape), graph.numbers([-1])],
        (*x.shape[:-1], 1),
        keepdims=1,
    )
    root = graph.add("Sqrt", [functions.add(graph, squares, float(epsilon))], squares.shape)
    normed = functions.divide(graph, x, root)
    return normed if scale is None else functions.multiply(graph, normed, scale)


def _embedding(graph: Graph, embedding: nn.Embedding, path: str, x: Value) -> Value:
    if embedding.max_norm is not None:
        raise LoweringError("there is no rule for Embedding(max_norm=...), which changes its table when it is read")
    if x.name not in graph.integers:
        raise LoweringError(f"{path or 'Embedding'} expects integers, got float32", code="export.type-mismatch")
    table = _own(graph, embedding, path, "weight")
    return graph.add("Gather", [table, x], (*x.shape, int(embedding.embedding_dim)), axis=0)


def _pool2d(
    graph: Graph, op: str, pool: Any, path: str, x: Value, *, dilation: tuple[int, int] = (1, 1), **settings: Attribute
) -> Value:
    _check_image(pool, path, x)
    kernel, stride, padding = _pair(pool.kernel_size), _pair(pool.stride), _pair(pool.padding)
    sides = []
    for i in (0, 1):
        last = x.shape[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1  # position of the last full window
        side = -(-last // stride[i]) + 1 if pool.ceil_mode else last // stride[i] + 1
        # As in torch, the last window must begin inside the image or the padding before it.
        if pool.ceil_mode and (side - 1) * stride[i] >= x.shape[2 + i] + padding[i]:
            side -= 1
        sides.append(side)
    shape = (*x.shape[:2], *sides)
    return graph.add(op, [x], shape, kernel_shape=kernel, strides=stride, pads=padding * 2, **settings)


def _max_pool2d(graph: Graph, pool: nn.MaxPool2d, path: str, x: Value) -> Value:
    if pool.return_indices:
        raise LoweringError("there is no rule for MaxPool2d(return_indices=True)")
    dilation, ceil = _pair(pool.dilation), int(pool.ceil_mode)
    return _pool2d(graph, "MaxPool", pool, path, x, dilation=dilation, dilations=dilation, ceil_mode=ceil)


def _avg_pool2d(graph: Graph, pool: nn.AvgPool2d, path: str, x: Value) -> Value:
    if pool.divisor_override is not None or pool.ceil_mode:
        raise LoweringError("there is no rule for AvgPool2d with divisor_override or ceil_mode")
    return _pool2d(graph, "AveragePool", pool, path, x, count_include_pad=int(pool.count_include_pad))


def _adaptive_avg_pool2d(graph: Graph, pool: nn.AdaptiveAvgPool2d, path: str, x: Value) -> Value:
    _check_image(pool, path, x)
    sizes = pool.output_size if isinstance(pool.output_size, Sequence) else (pool.output_size, pool.output_size)
    sides = [x.shape[2 + i] if side is None else int(side) for i, side in enumerate(sizes)]
    if prod(sides) == 1:
        return graph.add("GlobalAveragePool", [x], (*x.shape[:2], 1, 1))
    if any(x.shape[2 + i] % side for i, side in enumerate(sides)):
        raise _shape_mismatch(pool, path, f"sides divisible by {tuple(sides)}", x)
    window = (x.shape[2] // sides[0], x.shape[3] // sides[1])
    return graph.add("AveragePool", [x], (*x.shape[:2], *sides), kernel_shape=window, strides=window)


def _same(graph: Graph, module: nn.Module, path: str, x: Value) -> Value:
    return x


def _function(function: Callable[[Graph, Value], Value]) -> Rule:
    """The rule of a module without settings."""
    return lambda graph, module, path, x: function(graph, x)


def _activation(function: Callable[[Graph, Value, bool], Value]) -> Rule:
    """The rule of a module with the setting ``inplace``."""
    return lambda graph, module, path, x: function(graph, x, module.inplace)


RULES: Mapping[type[nn.Module], Rule] = {
    nn.Conv2d: _conv2d,
    nn.Linear: _linear,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _rms_norm,
    nn.Embedding: _embedding,
    nn.MaxPool2d: _max_pool2d,
    nn.AvgPool2d: _avg_pool2d,
    nn.AdaptiveAvgPool2d: _adaptive_avg_pool2d,
    nn.Identity: _same,
    nn.Dropout: _same,
    nn.Dropout2d: _same,
    nn.ReLU: _activation(functions.relu),
    nn.ReLU6: _activation(functions.relu6),
    nn.Sigmoid: _function(functions.sigmoid),
    nn.Tanh: _function(functions.tanh),
    nn.SiLU: _activation(functions.silu),
    nn.Hardswish: _activation(functions.hardswish),
    nn.Hardsigmoid: _activation(functions.hardsigmoid),
    nn.GELU: lambda graph, module, path, x: functions.gelu(graph, x, approximate=module.approximate),
    nn.Softmax: lambda graph, module, path, x: functions.softmax(graph, x, module.dim),
    nn.Flatten: lambda graph, module, path, x: functions.flatten(graph, x, module.start_dim, module.end_dim),
}
"""By exact type; subclasses are traced, because they may override the forward."""
