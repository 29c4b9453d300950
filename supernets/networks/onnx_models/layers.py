"""ONNX operators of layers: convolutions, products, norms, pools and attention."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from supernets.networks.onnx_models.registry import MAX_KNOWN, MICROSOFT, OperatorCall, as_tensor, operator

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOLS: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _pads(
    call: OperatorCall, x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """The padding before all extents, then after all, as ONNX orders it."""
    n, mode = len(kernel), call.attribute("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        pads = [int(size) for size in call.attribute("pads", (0,) * 2 * n)]
        padded = [size + a + b for size, a, b in zip(x.shape[2:], pads[:n], pads[n:], strict=False)]
        if call.is_known and prod(padded) * prod(x.shape[:2]) > MAX_KNOWN:
            call.reject(f"padding to {' x '.join(map(str, padded))} elements")
        return pads
    if mode == "VALID":
        return [0] * 2 * n
    before, after = [], []
    for size, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + dilation * (k - 1) + 1 - size, 0)
        smaller, larger = total // 2, total - total // 2
        before.append(smaller if mode == "SAME_UPPER" else larger)
        after.append(larger if mode == "SAME_UPPER" else smaller)
    return before + after


def _padded(x: Tensor, pads: Sequence[int], value: float = 0.0) -> tuple[Tensor, tuple[int, ...]]:
    """The input padded where both sides differ, and the padding that is left for the operation itself."""
    n = len(pads) // 2
    before, after = tuple(pads[:n]), tuple(pads[n:])
    if before == after:
        return x, before
    flat = [size for pair in reversed(list(zip(before, after, strict=True))) for size in pair]
    return F.pad(x, flat, value=value), (0,) * n


def _windows(call: OperatorCall, n: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Strides and dilations."""
    return (
        tuple(call.attribute("strides") or (1,) * n),
        tuple(call.attribute("dilations") or (1,) * n),
    )


@operator("Conv")
def _conv(call: OperatorCall) -> Tensor:
    x, weight = call.tensor(0), call.tensor(1)
    n = weight.ndim - 2
    strides, dilations = _windows(call, n)
    x, padding = _padded(x, _pads(call, x, weight.shape[2:], strides, dilations))
    return _CONVOLUTIONS[n](x, weight, call.optional(2), strides, padding, dilations, call.attribute("group", 1))


@operator("ConvTranspose")
def _conv_transpose(call: OperatorCall) -> Tensor:
    x, weight = call.tensor(0), call.tensor(1)
    n = weight.ndim - 2
    strides, dilations = _windows(call, n)
    extra = list(call.attribute("output_padding") or (0,) * n)
    mode, sizes = call.attribute("auto_pad", "NOTSET"), call.attribute("output_shape")
    if sizes or mode.startswith("SAME"):
        sizes = sizes or [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
        spans = [dilation * (k - 1) + 1 for k, dilation in zip(weight.shape[2:], dilations, strict=True)]
        totals = [
            (size - 1) * stride + more + span - out_size
            for size, stride, more, span, out_size in zip(x.shape[2:], strides, extra, spans, sizes[-n:], strict=True)
        ]
        smaller = [total // 2 for total in totals]
        larger = [total - half for total, half in zip(totals, smaller, strict=True)]
        before, after = (smaller, larger) if mode == "SAME_UPPER" else (larger, smaller)
    else:
        pads = list(call.attribute("pads") or (0,) * 2 * n)
        before, after = pads[:n], pads[n:]
    # torch removes as much of both sides; what one side has more is removed of the result.
    both = tuple(map(min, before, after))
    out = _TRANSPOSED[n](
        x, weight, call.optional(2), strides, both, tuple(extra), call.attribute("group", 1), dilations
    )
    for axis, (first, last, removed) in enumerate(zip(before, after, both, strict=True), start=2):
        if first != removed or last != removed:
            out = out.narrow(axis, first - removed, out.shape[axis] - first - last + 2 * removed)
    return out


@operator("Linear", domain="subnet-nas")
def _linear(call: OperatorCall) -> Tensor:
    return F.linear(call.tensor(0), call.tensor(1), call.optional(2))


@operator("Gemm")
def _gemm(call: OperatorCall) -> Tensor:
    a, b = call.tensor(0), call.tensor(1)
    product = (a.T if call.attribute("transA") else a) @ (b.T if call.attribute("transB") else b)
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    product = product if alpha == 1 else product * alpha
    if not call.has(2) or beta == 0:
        return product
    return product + (call.operand(2) if beta == 1 else call.operand(2) * beta)  # type: ignore[no-any-return]


@operator("MatMul")
def _matmul(call: OperatorCall) -> Tensor:
    return torch.matmul(call.tensor(0), call.tensor(1))


@operator("Einsum")
def _einsum(call: OperatorCall) -> Tensor:
    tensors = [call.tensor(i) for i in range(len(call.values))]
    return torch.einsum(str(call.attribute("equation", "")).replace(" ", ""), *tensors)


@operator("BatchNormalization")
def _batch_norm(call: OperatorCall) -> Tensor:
    if call.attribute("training_mode"):
        call.reject("a batch norm in training mode")
    scale, bias, mean, variance = (call.tensor(i) for i in range(1, 5))
    return F.batch_norm(call.tensor(0), mean, variance, scale, bias, False, 0.0, call.attribute("epsilon", 1e-5))


@operator("InstanceNormalization")
def _instance_norm(call: OperatorCall) -> Tensor:
    x, epsilon = call.tensor(0), call.attribute("epsilon", 1e-5)
    if prod(x.shape[2:]) == 1:  # which torch rejects
        return F.group_norm(x, x.shape[1], call.tensor(1), call.tensor(2), epsilon)
    return F.instance_norm(x, weight=call.tensor(1), bias=call.tensor(2), eps=epsilon)


@operator("GroupNormalization")
def _group_norm(call: OperatorCall) -> Tensor:
    x, n, scale, bias = call.tensor(0), call.attribute("num_groups", 1), call.tensor(1), call.tensor(2)
    if len(scale) == n != x.shape[1]:  # before opset 21
        scale, bias = (tensor.repeat_interleave(x.shape[1] // n) for tensor in (scale, bias))
    return F.group_norm(x, n, scale, bias, call.attribute("epsilon", 1e-5))


@operator("LayerNormalization")
def _layer_norm(call: OperatorCall) -> Tensor:
    x = call.tensor(0)
    shape = x.shape[call.attribute("axis", -1) :]
    weight, bias = call.tensor(1), call.optional(2)
    if weight.shape != shape:
        weight = weight.expand(shape)
        bias = None if bias is None else bias.expand(shape)
    return F.layer_norm(x, tuple(shape), weight, bias, call.attribute("epsilon", 1e-5))


@operator("RMSNormalization", "SimplifiedLayerNormalization")
def _rms_norm(call: OperatorCall) -> Tensor:
    x = call.tensor(0)
    return F.rms_norm(x, tuple(x.shape[call.attribute("axis", -1) :]), call.tensor(1), call.attribute("epsilon", 1e-5))


@operator("LpNormalization")
def _lp_norm(call: OperatorCall) -> Tensor:
    x, axis, p = call.tensor(0), call.attribute("axis", -1), call.attribute("p", 2)
    length = x.abs().sum(axis, keepdim=True) if p == 1 else (x * x).sum(axis, keepdim=True).sqrt()
    return x / length.clamp_min(torch.finfo(length.dtype).tiny)  # zeros stay zeros


@operator("LRN")
def _lrn(call: OperatorCall) -> Tensor:
    numbers = [call.attribute(key, default) for key, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))]
    return F.local_response_norm(call.tensor(0), call.attribute("size", 5), *numbers)


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(call: OperatorCall) -> Tensor:
    x = call.tensor(0)
    axes = tuple(range(2, x.ndim))
    return x.mean(axes, keepdim=True) if "Average" in call.node.op else x.amax(axes, keepdim=True)


@operator("MaxPool", "AveragePool")
def _pool(call: OperatorCall) -> Tensor:
    x, kernel = call.tensor(0), tuple(call.attribute("kernel_shape") or ())
    n = len(kernel)
    strides, dilations = _windows(call, n)
    ceil = bool(call.attribute("ceil_mode", 0))
    pads = _pads(call, x, kernel, strides, dilations)
    before, after, sizes = pads[:n], pads[n:], tuple(x.shape[2:])
    fits = all(b == a and 2 * b <= k for b, a, k in zip(before, after, kernel, strict=True))
    if call.node.op == "MaxPool":
        if len(call.node.outputs) > 1 and call.node.outputs[1]:
            call.reject("the positions of maxima")
        x, padding = (x, tuple(before)) if fits else _padded_fully(x, before, after, float("-inf"))
        pooled = _MAX_POOLS[n](x, kernel, strides, padding, dilations, ceil)
        return pooled if fits else _without_windows_in_padding(pooled, sizes, before, strides)
    if any(dilation != 1 for dilation in dilations):
        call.reject("an average pool with dilation")
    counts_padding = bool(call.attribute("count_include_pad", 0))
    if fits:
        return _AVERAGE_POOLS[n](x, kernel, strides, tuple(before), ceil, counts_padding)  # type: ignore[no-any-return]
    padded, _ = _padded_fully(x, before, after, 0.0)
    pooled = _without_windows_in_padding(_AVERAGE_POOLS[n](padded, kernel, strides, 0, ceil), sizes, before, strides)
    if counts_padding:
        return pooled
    ones, _ = _padded_fully(torch.ones((1, 1, *sizes)), before, after, 0.0)
    counts = _without_windows_in_padding(_AVERAGE_POOLS[n](ones, kernel, strides, 0, ceil), sizes, before, strides)
    return pooled / counts


def _without_windows_in_padding(
    pooled: Tensor, sizes: Sequence[int], before: Sequence[int], strides: Sequence[int]
) -> Tensor:
    """The results of windows that begin before the padding at the ends of extents, as `ceil_mode` makes others too."""
    for axis, (size, padding, stride) in enumerate(zip(sizes, before, strides, strict=True), start=2):
        n = (size + padding - 1) // stride + 1
        pooled = pooled.narrow(axis, 0, n) if pooled.shape[axis] > n else pooled
    return pooled


def _padded_fully(
    x: Tensor, before: Sequence[int], after: Sequence[int], value: float
) -> tuple[Tensor, tuple[int, ...]]:
    flat = [size for pair in reversed(list(zip(before, after, strict=True))) for size in pair]
    return F.pad(x, flat, value=value), (0,) * len(before)


@operator("Softmax", "LogSoftmax")
def _softmax(call: OperatorCall) -> Tensor:
    x = call.tensor(0)
    function = torch.softmax if call.node.op == "Softmax" else torch.log_softmax
    axis = call.attribute("axis", -1 if call.version >= 13 else 1)
    if call.version >= 13 or axis % max(x.ndim, 1) == x.ndim - 1:
        return function(x, axis)
    return function(x.flatten(axis % x.ndim), -1).reshape(
        x.shape
    )  # before opset 13, over all dimensions from the axis on


@operator("Hardmax")
def _hardmax(call: OperatorCall) -> Tensor:
    x, axis = call.tensor(0), call.attribute("axis", -1 if call.version >= 13 else 1)
    if call.version < 13:
        flat = x.flatten(axis % x.ndim)
        return F.one_hot(flat.argmax(-1), flat.shape[-1]).reshape(x.shape).to(x.dtype)
    return F.one_hot(x.argmax(axis), x.shape[axis]).movedim(-1, axis).to(x.dtype)


@operator("Dropout", "Identity")
def _identity(call: OperatorCall) -> Any:
    if call.node.op == "Dropout" and call.has(2) and bool(call.known(2).any()):
        call.reject("a dropout in training mode")
    return call.value(0)


@operator("Attention")
def _attention(call: OperatorCall) -> Tensor:
    """Scaled dot products of queries, keys and values (n, heads, tokens, size), or (n, tokens, heads x size)."""
    if call.has(4) or call.has(5) or call.attribute("softcap") or any(call.node.outputs[1:]):
        call.reject("a cache, a soft cap or further outputs of attention")
    q, k, v = (call.tensor(i) for i in range(3))
    is_flat = q.ndim == 3
    if is_flat:
        heads = call.attribute("q_num_heads", 1), call.attribute("kv_num_heads", 1)
        q, k, v = (
            x.reshape(x.shape[0], x.shape[1], n, -1).transpose(1, 2)
            for x, n in zip((q, k, v), (heads[0], heads[1], heads[1]), strict=True)
        )
    out = F.scaled_dot_product_attention(
        q,
        k,
        v,
        call.optional(3),
        is_causal=bool(call.attribute("is_causal", 0)),
        scale=call.attribute("scale"),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return out.transpose(1, 2).reshape(out.shape[0], out.shape[2], -1) if is_flat else out


@operator("DepthToSpace", "SpaceToDepth")
def _depth_to_space(call: OperatorCall) -> Tensor:
    x, size = call.tensor(0), call.attribute("blocksize", 1)
    n, channels, height, width = x.shape
    if call.node.op == "SpaceToDepth":
        divided = x.reshape(n, channels, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
        return divided.reshape(n, channels * size * size, height // size, width // size)
    if call.attribute("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, size)
    divided = x.reshape(n, size, size, channels // size**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return divided.reshape(n, channels // size**2, height * size, width * size)


@operator("DequantizeLinear")
def _dequantised(call: OperatorCall) -> Any:
    """Weights in whole numbers as real ones; of activations, the value before it was rounded."""
    x = call.value(0)
    if isinstance(x, Tensor):
        return x
    scale, axis = call.known(1), call.attribute("axis", 1)
    if call.attribute("block_size", 0):
        call.reject("weights quantised in blocks")
    zero = call.known(2) if call.has(2) else np.zeros_like(scale)
    if scale.ndim == 1 and scale.size > 1:
        shape = tuple(-1 if i == axis % x.ndim else 1 for i in range(x.ndim))
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return ((x.astype(np.float32) - zero.astype(np.float32)) * scale).astype(np.float32)


@operator("QuantizeLinear")
def _quantised(call: OperatorCall) -> Any:
    """The value without rounding.

    Where whole numbers begin with zero, negative ones become it: quantisers leave out the activation that did that, and of
    its upper bound only the largest whole number is left.
    """
    zero = call.known(2) if call.has(2) else np.zeros(1, np.uint8)
    if zero.dtype.kind not in "iu" or zero.dtype.itemsize > 2 or np.any(zero != np.iinfo(zero.dtype).min):
        return call.value(0)
    if call.known(1).size != 1:
        return torch.relu(call.tensor(0))
    bounds = np.iinfo(zero.dtype)
    return torch.clamp(call.tensor(0), 0.0, (bounds.max - bounds.min) * call.known(1).reshape(()).item())


@operator("Gelu")
def _gelu(call: OperatorCall) -> Tensor:
    return F.gelu(call.tensor(0), approximate=call.attribute("approximate", "none"))


@operator("Gelu", domain=MICROSOFT)
def _exact_gelu(call: OperatorCall) -> Tensor:
    return F.gelu(as_tensor(call.value(0)))
