"""Lowering of linear layers, convolutions, products of matrices, attention and normalisations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from supernets.capture.lowering.state import Lowering, ints, lowers
from supernets.capture.program import Argument, Call, Ref
from supernets.errors import LoweringError
from supernets.graph.ir import Value


@lowers("linear")
def _linear(low: Lowering, call: Call) -> None:
    a = call.arguments
    x, weight = low.tensor(a["input"]), low.tensor(a["weight"])
    bias = low.tensor(a["bias"]) if a["bias"] is not None else None
    if low.rank(a["input"]) == 2:
        low.returns(call, low.one("Gemm", x, weight, *([] if bias is None else [bias]), transB=1))
        return
    product = low.one("MatMul", x, low.one("Transpose", weight, perm=(1, 0)))
    low.returns(call, product if bias is None else low.one("Add", product, bias))


@lowers("conv1d", "conv2d", "conv3d")
def _convolution(low: Lowering, call: Call) -> None:
    a = call.arguments
    n = low.rank(a["input"]) - 2
    inputs, kernel = _operands(low, call)
    low.returns(call, low.one(
        "Conv", *inputs, kernel_shape=tuple(kernel), strides=ints(a["stride"], n), dilations=ints(a["dilation"], n),
        pads=_pads(a["padding"], kernel, ints(a["dilation"], n)), group=cast(int, a["groups"]),
    ))  # fmt: skip


def _operands(low: Lowering, call: Call) -> tuple[list[Value], tuple[int, ...]]:
    """The input, weight and bias of a convolution, and the sizes of its kernel."""
    names = [name for name in ("input", "weight", "bias") if call.arguments[name] is not None]
    kernel = low.shape(cast(Ref, call.arguments["weight"]).name)[2:]
    return [low.tensor(call.arguments[name]) for name in names], tuple(kernel)


def _pads(padding: Argument, kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """The padding before and after each dimension; of "same", the odd element comes after."""
    if padding == "valid":
        return (0,) * (2 * len(kernel))
    if padding == "same":
        total = [dilation * (size - 1) for size, dilation in zip(kernel, dilations, strict=True)]
        return (*(n // 2 for n in total), *(n - n // 2 for n in total))
    return ints(padding, len(kernel)) * 2


@lowers("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _transposed_convolution(low: Lowering, call: Call) -> None:
    a = call.arguments
    n = low.rank(a["input"]) - 2
    inputs, kernel = _operands(low, call)
    low.returns(call, low.one(
        "ConvTranspose", *inputs, kernel_shape=tuple(kernel), strides=ints(a["stride"], n), dilations=ints(a["dilation"], n),
        pads=ints(a["padding"], n) * 2, output_padding=ints(a["output_padding"], n), group=cast(int, a["groups"]),
    ))  # fmt: skip


@lowers("matmul", "bmm", "mm")
def _matmul(low: Lowering, call: Call) -> None:
    right = next(call.arguments[name] for name in ("other", "mat2") if name in call.arguments)
    low.returns(call, low.one("MatMul", low.tensor(call.arguments["self"]), low.tensor(right)))


@lowers("addmm", "baddbmm")
def _add_product(low: Lowering, call: Call) -> None:
    a = call.arguments
    if a.get("alpha", 1) != 1 or a.get("beta", 1) != 1:
        raise LoweringError(f"there is no rule for {call.name} with alpha or beta")
    left, right = (low.tensor(a[name]) for name in a if name.startswith(("mat", "batch")))
    low.returns(call, low.one("Add", low.one("MatMul", left, right), low.tensor(a["self"])))


@lowers("einsum")
def _einsum(low: Lowering, call: Call) -> None:
    operands = [low.tensor(one) for one in cast(tuple[Argument, ...], call.arguments["tensors"])]
    low.returns(call, low.one("Einsum", *operands, equation=cast(str, call.arguments["equation"])))


@lowers("scaled_dot_product_attention")
def _attention(low: Lowering, call: Call) -> None:
    a = call.arguments
    if a.get("enable_gqa") or a.get("dropout_p"):
        raise LoweringError("there is no rule for attention with grouped queries or dropout")
    query, key = low.shape(cast(Ref, a["query"]).name), low.shape(cast(Ref, a["key"]).name)
    scale = cast(float | None, a.get("scale")) or query[-1] ** -0.5
    order = [*range(len(key) - 2), len(key) - 1, len(key) - 2]
    scaled = low.one("Mul", low.tensor(a["query"]), low.scalar(scale))
    scores = low.one("MatMul", scaled, low.one("Transpose", low.tensor(a["key"]), perm=tuple(order)))
    if a.get("is_causal"):
        mask = np.triu(np.full((query[-2], key[-2]), -np.inf, dtype=np.float32), 1)
        scores = low.one("Add", scores, low.graph.constant(mask))
    if a["attn_mask"] is not None:
        mask_value = low.tensor(a["attn_mask"])
        if low.dtype(a["attn_mask"]) == "bool":
            scores = low.one("Where", mask_value, scores, low.scalar(-math.inf))
        else:
            scores = low.one("Add", scores, mask_value)
    low.returns(call, low.one("MatMul", low.one("Softmax", scores, axis=-1), low.tensor(a["value"])))


@lowers("embedding")
def _embedding(low: Lowering, call: Call) -> None:
    low.returns(
        call, low.one("Gather", low.tensor(call.arguments["weight"]), low.tensor(call.arguments["indices"]), axis=0)
    )


@lowers("batch_norm", "instance_norm")
def _batch_norm(low: Lowering, call: Call) -> None:
    a = call.arguments
    own_statistics = a.get("training", a.get("use_input_stats"))
    name, shape = cast(Ref, a["input"]).name, low.shape(cast(Ref, a["input"]).name)
    weights_alone = not low.program.dynamic.get(name) and shape[0] == 1  # a convolution's standardised weights
    if call.name == "batch_norm" and own_statistics and not weights_alone:
        raise LoweringError("a batch norm has no running statistics, so that its outputs depend on the batch")
    scale, shift = (
        low.graph.constant(np.full(shape[1], fill, dtype=np.float32)) if a[name] is None else low.tensor(a[name])
        for name, fill in (("weight", 1.0), ("bias", 0.0))
    )
    inputs, epsilon = [low.tensor(a["input"]), scale, shift], cast(float, a["eps"])
    if own_statistics:
        low.returns(call, low.one("InstanceNormalization", *inputs, epsilon=epsilon))
        return
    inputs += [low.tensor(a["running_mean"]), low.tensor(a["running_var"])]
    low.returns(call, low.one("BatchNormalization", *inputs, epsilon=epsilon))


@lowers("layer_norm")
def _layer_norm(low: Lowering, call: Call) -> None:
    a = call.arguments
    sizes = cast(tuple[int, ...], a["normalized_shape"])
    scale = low.graph.constant(np.ones(sizes, dtype=np.float32)) if a["weight"] is None else low.tensor(a["weight"])
    inputs = [low.tensor(a["input"]), scale] + ([] if a["bias"] is None else [low.tensor(a["bias"])])
    low.returns(call, low.one("LayerNormalization", *inputs, axis=-len(sizes), epsilon=cast(float, a["eps"])))


@lowers("_weight_norm")
def _weight_norm(low: Lowering, call: Call) -> None:
    a = call.arguments
    direction, rank = low.tensor(a["v"]), low.rank(a["v"])
    axes = low.numbers([i for i in range(rank) if i != cast(int, a["dim"]) % rank])
    norm = low.one("ReduceL2", direction, axes, keepdims=1)
    low.returns(call, low.one("Div", low.one("Mul", direction, low.tensor(a["g"])), norm))


@lowers("rms_norm")
def _rms_norm(low: Lowering, call: Call) -> None:
    a = call.arguments
    x, n = low.tensor(a["input"]), len(cast(tuple[int, ...], a["normalized_shape"]))
    eps = cast(float | None, a["eps"]) or float(np.finfo(np.float32).eps)
    # Runtimes recognise the norm by Pow and replace it by one operation; a product of x with itself they do not.
    mean = low.one("ReduceMean", low.one("Pow", x, low.scalar(2.0)), low.numbers(list(range(-n, 0))), keepdims=1)
    out = low.one("Div", x, low.one("Sqrt", low.one("Add", mean, low.scalar(eps))))
    low.returns(call, out if a["weight"] is None else low.one("Mul", out, low.tensor(a["weight"])))


@lowers("group_norm")
def _group_norm(low: Lowering, call: Call) -> None:
    a = call.arguments
    shape, groups = low.shape(cast(Ref, a["input"]).name), cast(int, a["num_groups"])
    ones, zeros = (low.graph.constant(np.full(groups, fill, dtype=np.float32)) for fill in (1.0, 0.0))
    grouped = low.one("Reshape", low.tensor(a["input"]), low.numbers([0, groups, -1]))
    normed = low.one("InstanceNormalization", grouped, ones, zeros, epsilon=cast(float, a["eps"]))
    out = low.one("Reshape", normed, low.numbers([-1, *shape[1:]]))
    for name, op in (("weight", "Mul"), ("bias", "Add")):
        if a[name] is not None:
            column = low.one("Reshape", low.tensor(a[name]), low.numbers([-1] + [1] * (len(shape) - 2)))
            out = low.one(op, out, column)
    low.returns(call, out)
