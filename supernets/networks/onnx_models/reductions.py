"""ONNX operators that reduce, order or accumulate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from supernets.networks.onnx_models.registry import OperatorCall, operator

_REDUCTIONS: dict[str, Callable[[Tensor, tuple[int, ...], bool], Tensor]] = {
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep).sqrt(),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: x.logsumexp(axes, keepdim=keep),
}


@operator(*_REDUCTIONS)
def _reduced(call: OperatorCall) -> Tensor:
    x, axes = call.tensor(0), call.ints(1, "axes")
    if not axes:
        if call.attribute("noop_with_empty_axes"):
            return _REDUCTIONS[call.node.op](x.unsqueeze(0), (0,), False)
        axes = tuple(range(x.ndim))
    return _REDUCTIONS[call.node.op](x, axes, bool(call.attribute("keepdims", 1)))


@operator("ReduceProd")
def _product(call: OperatorCall) -> Tensor:
    x, axes = call.tensor(0), call.ints(1, "axes")
    keep = bool(call.attribute("keepdims", 1))
    if not axes and call.attribute("noop_with_empty_axes"):
        return x
    for axis in sorted((axis % x.ndim for axis in axes or range(x.ndim)), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


@operator("ArgMax", "ArgMin")
def _extreme(call: OperatorCall) -> Tensor:
    x, axis, keep = call.tensor(0), call.attribute("axis", 0), bool(call.attribute("keepdims", 1))
    if call.attribute("select_last_index"):
        call.reject("the last index of equal numbers")
    return (torch.argmax if call.node.op == "ArgMax" else torch.argmin)(x, axis, keepdim=keep)


@operator("TopK")
def _top_k(call: OperatorCall) -> Any:
    counts = call.ints(1, "k") or (1,)
    largest, is_sorted = bool(call.attribute("largest", 1)), bool(call.attribute("sorted", 1))
    return tuple(call.tensor(0).topk(counts[0], call.attribute("axis", -1), largest, is_sorted))


@operator("CumSum")
def _cumulative_sum(call: OperatorCall) -> Tensor:
    x, axis = call.tensor(0), int(call.known(1).reshape(()))
    is_reversed = bool(call.attribute("reverse"))
    x = x.flip(axis) if is_reversed else x
    total = x.cumsum(axis).to(x.dtype)
    total = total - x if call.attribute("exclusive") else total
    return total.flip(axis) if is_reversed else total
