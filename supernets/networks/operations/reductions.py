"""Reductions over dimensions."""

from __future__ import annotations

import math
from typing import cast

from supernets.errors import LoweringError
from supernets.networks.capture.dimensions import fix, fixed
from supernets.networks.capture.inference import Inference
from supernets.networks.capture.program import Call
from supernets.networks.lowering.state import Lowering
from supernets.networks.onnx_graph.ir import Value
from supernets.networks.operations.elementwise import typed_operand
from supernets.networks.operations.registry import ResultDims, ResultValues, axes, lowers, rule_of


@rule_of(
    "mean",
    "sum",
    "amax",
    "amin",
    "logsumexp",
    "linalg_vector_norm",
    "norm",
    "var",
    "std",
    "var_mean",
    "std_mean",
    "prod",
    "any",
    "all",
    "max",
    "min",
    "argmax",
    "argmin",
)
def _reduce_dims(ctx: Inference, call: Call) -> ResultDims:
    x = ctx.tensor_dims(call.arguments["self"])
    if "other" in call.arguments:
        return ctx.broadcast([x, ctx.tensor_dims(call.arguments["other"])])
    chosen = axes(call.arguments.get("dim"), len(x))
    if call.name in ("argmax", "argmin") or (call.name in ("max", "min") and len(call.outputs) > 1):
        for position in chosen:
            fix(x[position], "a position in it is chosen")
    if call.arguments.get("keepdim"):
        out = [fixed(1, "a size of 1") if i in chosen else dimension for i, dimension in enumerate(x)]
    else:
        out = [dimension for i, dimension in enumerate(x) if i not in chosen]
    return tuple([out] * len(call.outputs))


_REDUCTIONS = {
    "mean": "ReduceMean",
    "sum": "ReduceSum",
    "amax": "ReduceMax",
    "amin": "ReduceMin",
    "logsumexp": "ReduceLogSumExp",
    "prod": "ReduceProd",
}


def _positions(low: Lowering, call: Call) -> list[int]:
    """The positions that a reduction reduces, in order."""
    a = call.arguments
    if a.get("dim") in (None, ()) and low.dynamic(a["self"]):
        raise LoweringError(f"a {call.name} over all dimensions includes the batch")
    return sorted(axes(a.get("dim"), low.rank(a["self"])))


@lowers(*_REDUCTIONS, "linalg_vector_norm", "norm", neutral=("dtype",))
def _lower_reduce(low: Lowering, call: Call) -> ResultValues:
    a, dims = call.arguments, _positions(low, call)
    x = typed_operand(low, a["self"], low.result_type(call))
    if call.name == "mean" and low.rank(a["self"]) == 4 and dims == [2, 3]:
        # Runtimes compute this pooling in their own layout of channels.
        pooled = low.add("GlobalAveragePool", x)
        return pooled if a.get("keepdim") else low.add("Flatten", pooled, axis=1)
    if call.name in ("linalg_vector_norm", "norm") and a["ord" if "ord" in a else "p"] not in (2, None):
        raise LoweringError("there is no rule for a norm of another order than 2")
    op = _REDUCTIONS.get(call.name, "ReduceL2")
    return low.add(op, x, low.numbers(dims), keepdims=int(bool(a.get("keepdim"))))


@lowers("var", "std", "var_mean", "std_mean")
def _lower_variance(low: Lowering, call: Call) -> ResultValues:
    a, dims = call.arguments, _positions(low, call)
    x, shape = low.tensor(a["self"]), low.shape(a["self"])
    n, positions, keep = math.prod(shape[d] for d in dims), low.numbers(dims), int(bool(a.get("keepdim")))
    correction = cast(float, a.get("correction", int(bool(a.get("unbiased", True)))))
    correction = 1.0 if correction is None else correction
    if any(d in low.dynamic(a["self"]) for d in dims) or n <= correction:
        raise LoweringError(f"there is no rule for a {call.name} over the batch or over one number")
    centred = low.add("Sub", x, low.add("ReduceMean", x, positions, keepdims=1))
    total = low.add("ReduceSumSquare", centred, positions, keepdims=keep)
    spread = low.add("Div", total, low.scalar(float(n - correction)))
    if call.name.startswith("std"):
        spread = low.add("Sqrt", spread)
    mean = [low.add("ReduceMean", x, positions, keepdims=keep)] if call.name.endswith("_mean") else []
    return spread, *mean


@lowers("max", "min")
def _lower_extreme(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    if "other" in a:
        operands = [typed_operand(low, a[name], low.result_type(call)) for name in ("self", "other")]
        return low.add(call.name.capitalize(), *operands)
    positions, kind, keep = _positions(low, call), call.name.capitalize(), int(bool(a.get("keepdim")))
    out = low.add(f"Reduce{kind}", low.tensor(a["self"]), low.numbers(positions), keepdims=keep)
    if len(call.outputs) < 2 or not low.is_read(call.outputs[1]):
        return out
    return out, _position(low, call, f"Arg{kind}")


@lowers("argmax", "argmin")
def _lower_position(low: Lowering, call: Call) -> ResultValues:
    return _position(low, call, f"Arg{call.name.removeprefix('arg').capitalize()}")


def _position(low: Lowering, call: Call, op: str) -> Value:
    """The position of an extreme unit, the first one of equals."""
    a = call.arguments
    if a.get("dim") is None or low.dtype(a["self"]) != "float32":
        raise LoweringError(f"there is no rule for {call.name} over all dimensions, or of {low.dtype(a['self'])}")
    (axis,) = _positions(low, call)
    return low.add(op, low.tensor(a["self"]), axis=axis, keepdims=int(bool(a["keepdim"])))
