"""Reductions over dimensions."""

from __future__ import annotations

import math
from typing import cast

from supernets.capture.dimensions import (
    fix,
    fixed,
)
from supernets.capture.inference import Inference
from supernets.capture.lowering.state import Lowering, ints, lowers
from supernets.capture.operations.registry import (
    RULES,
    axes,
    rule_of,
)
from supernets.capture.program import Call, Ref
from supernets.errors import LoweringError


@rule_of(
    "mean", "sum", "amax", "amin", "logsumexp", "linalg_vector_norm", "norm", "var", "std", "var_mean", "std_mean", "prod",
    "any", "all", "max", "min", "argmax", "argmin",
)  # fmt: skip
def _reduce_dims(ctx: Inference, call: Call) -> None:
    given = call.arguments.get("dim")
    x = ctx.of(call.arguments["self"])
    if "other" in call.arguments:
        RULES["maximum"](ctx, call)
        return
    if call.name in ("argmax", "argmin") or (call.name in ("max", "min") and len(call.outputs) > 1):
        for position in axes(given, len(x)):
            fix(x[position], "a position in it is chosen")
    chosen = axes(given, len(x))
    if call.arguments.get("keepdim"):
        out = [fixed(1, "a size of 1") if i in chosen else own for i, own in enumerate(x)]
    else:
        out = [own for i, own in enumerate(x) if i not in chosen]
    ctx.returns(call, *([out] * len(call.outputs)))


_REDUCTIONS = {
    "mean": "ReduceMean",
    "sum": "ReduceSum",
    "amax": "ReduceMax",
    "amin": "ReduceMin",
    "logsumexp": "ReduceLogSumExp",
}


@lowers(*_REDUCTIONS, "linalg_vector_norm", "norm")
def _lower_reduce(low: Lowering, call: Call) -> None:
    a = call.arguments
    if a.get("dim") is None:
        raise LoweringError(f"a {call.name} over all dimensions includes the batch")
    dims = sorted(d % low.rank(a["self"]) for d in ints(a["dim"], 1))
    if call.name == "mean" and low.rank(a["self"]) == 4 and dims == [2, 3]:
        # Runtimes compute this pooling in their own layout of channels.
        pooled = low.one("GlobalAveragePool", low.tensor(a["self"]))
        low.returns(call, pooled if a.get("keepdim") else low.one("Flatten", pooled, axis=1))
        return
    axes = low.numbers(dims)
    name = _REDUCTIONS.get(call.name, "ReduceL2")
    if call.name in ("linalg_vector_norm", "norm") and a.get("ord", a.get("p")) not in (2, None):
        raise LoweringError("there is no rule for a norm of another order than 2")
    low.returns(call, low.one(name, low.tensor(a["self"]), axes, keepdims=int(bool(a.get("keepdim")))))


@lowers("var", "std", "var_mean", "std_mean")
def _lower_variance(low: Lowering, call: Call) -> None:
    a = call.arguments
    if a.get("dim") is None:
        raise LoweringError(f"a {call.name} over all dimensions includes the batch")
    x, shape = low.tensor(a["self"]), low.shape(cast(Ref, a["self"]).name)
    dims = [d % len(shape) for d in ints(a["dim"], 1)]
    n, axes, keep = math.prod(shape[d] for d in dims), low.numbers(dims), int(bool(a.get("keepdim")))
    correction = cast(float, a.get("correction", int(bool(a.get("unbiased", True)))))
    correction = 1.0 if correction is None else correction
    if any(d in low.program.dynamic.get(cast(Ref, a["self"]).name, ()) for d in dims) or n <= correction:
        raise LoweringError(f"there is no rule for a {call.name} over the batch or over one number")
    centred = low.one("Sub", x, low.one("ReduceMean", x, axes, keepdims=1))
    total = low.one("ReduceSumSquare", centred, axes, keepdims=keep)
    spread = low.one("Div", total, low.scalar(float(n - correction)))
    if call.name.startswith("std"):
        spread = low.one("Sqrt", spread)
    mean = [low.one("ReduceMean", x, axes, keepdims=keep)] if call.name.endswith("_mean") else []
    low.returns(call, spread, *mean)


@lowers("max", "min")
def _lower_extreme(low: Lowering, call: Call) -> None:
    a = call.arguments
    if "other" in a:
        low.returns(
            call, low.one("Max" if call.name == "max" else "Min", low.tensor(a["self"]), low.tensor(a["other"]))
        )
        return
    if a.get("dim") is None or (len(call.outputs) > 1 and low.is_read(call.outputs[1])):
        raise LoweringError(f"there is no rule for a {call.name} over all dimensions, or for its positions")
    axes, keep = low.numbers([cast(int, a["dim"]) % low.rank(a["self"])]), int(bool(a.get("keepdim")))
    low.returns(call, low.one(f"Reduce{call.name.capitalize()}", low.tensor(a["self"]), axes, keepdims=keep))
