"""Mixtures of experts in programs; in ONNX, experts read their own tokens, or all tokens as one MLP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from supernets.errors import LoweringError
from supernets.experts.mixing import NULL_LOGIT, UNLIMITED
from supernets.networks.capture.dimensions import find, split, unify
from supernets.networks.capture.inference import Inference
from supernets.networks.capture.program import Call
from supernets.networks.lowering.state import Lowering
from supernets.networks.onnx_graph.ir import Value
from supernets.networks.operations.elementwise import gelu, silu
from supernets.networks.operations.registry import (
    Products,
    ResultDims,
    dims_of,
    onnx_of,
    own,
    rule_of,
    unify_parameters,
    work_of,
)


class _Experts:
    """The weights of the experts of a layer, of which only the parts that are read become tensors of the model."""

    def __init__(
        self, low: Lowering, up: Value, down: Value, gate: Value | None, up_bias: Value | None, activation: str
    ) -> None:
        self._low, self._activation = low, activation
        self._up, self._down, self._gate, self._up_bias = up, down, gate, up_bias
        self.n, self.hidden, self.inputs = up.shape
        self.width = down.shape[1]

    def outputs(self, i: int, rows: Value) -> Value:
        """The outputs of expert `i` for rows (rows, inputs)."""
        return self._low.add("MatMul", self._inner(i, rows), self._part(self._down, i))

    def joined(self, rows: Value, factors: Value | None) -> Value:
        """The outputs of all experts for rows (rows, inputs), added up with factors (rows, experts); None for 1."""
        low, inner = self._low, self._inner(None, rows)
        if factors is not None:
            parted = low.add("Reshape", inner, low.numbers([-1, self.n, self.hidden]))
            scaled = low.add("Mul", parted, low.add("Unsqueeze", factors, low.numbers([2])))
            inner = low.add("Reshape", scaled, low.numbers([-1, self.n * self.hidden]))
        return low.add("MatMul", inner, self._part(self._down, None))

    def _inner(self, i: int | None, rows: Value) -> Value:
        low, part = self._low, self._part
        up = low.add("MatMul", rows, part(self._up, i))
        if self._up_bias is not None:
            up = low.add("Add", up, part(self._up_bias, i))
        if self._gate is None:
            return self._activated(up)
        return low.add("Mul", self._activated(low.add("MatMul", rows, part(self._gate, i))), up)

    def _activated(self, x: Value) -> Value:
        match self._activation:
            case "silu":
                return silu(self._low, x)
            case "gelu":
                return gelu(self._low, x)
            case _:
                return gelu(self._low, x, approximate="tanh")

    def _part(self, stack: Value, i: int | None) -> Value:
        """A bias, or a matrix as a product reads it, (inputs, outputs), of expert `i`, or of all joined to one MLP."""
        array = self._low.parameters[stack.name]
        if i is not None:
            return self._stored(f"{stack.name}.{i}", array[i] if array.ndim == 2 else array[i].T)
        if array.ndim == 2:
            return self._stored(f"{stack.name}.all", array.reshape(-1))
        if stack is self._down:  # (experts, width, hidden)
            return self._stored(f"{stack.name}.all", array.transpose(0, 2, 1).reshape(-1, self.width))
        return self._stored(f"{stack.name}.all", array.reshape(-1, self.inputs).T)

    def _stored(self, name: str, array: NDArray[np.generic]) -> Value:
        self._low.parameters[name] = array
        return self._low.declare(name, array.shape)


@rule_of(own("mixed_experts"), neutral=("active", "top_p", "gates", "activation"))
def _mixed_experts_dims(ctx: Inference, call: Call) -> ResultDims:
    x, logits, up, down = (ctx.tensor_dims(call.arguments[name]) for name in ("x", "logits", "up", "down"))
    unify(x[-1], up[2])
    unify(up[0], down[0])
    unify(up[1], down[2])
    unify_parameters(ctx, call, up, "gate")
    unify_parameters(ctx, call, up[:2], "up_bias")
    n_experts, n_logits = find(up[0]).size, find(logits[-1]).size
    experts = logits[-1] if n_experts == n_logits else split(logits[-1], [n_experts, n_logits - n_experts])[0]
    unify(experts, up[0])
    return [*x[:-1], down[1]]


@work_of(own("mixed_experts"))
def _mixed_experts_work(inference: Inference, call: Call) -> Products:
    """The products of a token that chooses no null expert and needs all experts for `top_p`."""
    a, outputs = call.arguments, inference.dims[call.outputs[0]]
    up, lead = dims_of(inference, a["up"]), [*outputs[:-1], *dims_of(inference, a["active"])]
    n_first = 1 + (a["gate"] is not None)
    return [([*lead, up[1], up[2]], [*lead, up[1]])] * n_first + [([*lead, up[1], outputs[-1]], [*lead, outputs[-1]])]


@onnx_of("mixed_experts")
def mixed_experts(
    low: Lowering,
    x: Value,
    logits: Value,
    active: Value,
    up: Value,
    down: Value,
    gate: Value | None = None,
    up_bias: Value | None = None,
    top_p: Value | None = None,
    *,
    gates: str = "softmax",
    activation: str = "silu",
) -> Value:
    """`supernets.experts.mixing.mixed_experts`: (n, ..., inputs) -> (n, ..., width).

    A token's k outputs are gathered in the order of its experts, so that one addition of k numbers follows for each channel.
    Those of null experts, and of experts past top-p, are a row of zeros, and no expert reads a token for them.
    """
    if any(value is not None and value.name not in low.parameters for value in (active, up, down, top_p)):
        raise LoweringError("there is no rule for experts whose weights are computed; make them parameters")
    experts, k = _Experts(low, up, down, gate, up_bias, activation), active.shape[0]
    rows = low.add("Reshape", x, low.numbers([-1, experts.inputs]))
    n_logits = logits.shape[-1]
    flat = low.add("Reshape", logits, low.numbers([-1, n_logits]))
    limit = UNLIMITED if top_p is None else float(low.parameters[top_p.name].max())
    if k == experts.n == n_logits and limit > 1:
        mixed = experts.joined(rows, _factors(low, flat, flat, None, gates))
    else:
        greatest, chosen = low.add_many("TopK", [flat, low.numbers([k])], 2, axis=1)
        numbers = chosen if limit > 1 else _within_top_p(low, flat, chosen, limit, experts.n)
        nulls = n_logits > experts.n or limit <= 1
        if nulls and gates == "softmax":
            greatest = _without_nulls(low, greatest, numbers, experts.n)
        outputs = _chosen_outputs(low, experts, rows, numbers, k, nulls=nulls)
        mixed = _added(low, outputs, _factors(low, flat, greatest, chosen, gates))
    if x.rank == 2:
        return mixed
    *leading, _ = x.shape[1:]
    if all(size > 0 for size in leading):
        return low.add("Reshape", mixed, low.numbers([-1, *leading, experts.width]))
    sizes = low.add("Shape", x, end=x.rank - 1)
    return low.add("Reshape", mixed, low.add("Concat", sizes, low.numbers([-1]), axis=0))


def _within_top_p(low: Lowering, logits: Value, chosen: Value, limit: float, n: int) -> Value:
    """The experts of a row, (rows, k); `n`, as of a null one, where the probabilities of those before it sum to `limit`."""
    before = low.add("CumSum", _probabilities(low, logits, chosen), low.whole(1), exclusive=1)
    return low.add("Where", low.add("Less", before, low.scalar(limit)), chosen, low.whole(n))


def _probabilities(low: Lowering, logits: Value, chosen: Value | None) -> Value:
    """The probabilities of a row's experts, (rows, k), or of all."""
    shares = low.add("Softmax", logits, axis=1)
    return shares if chosen is None else low.add("GatherElements", shares, chosen, axis=1)


def _without_nulls(low: Lowering, greatest: Value, chosen: Value, n: int) -> Value:
    """The logits of a row's experts, (rows, k), where null ones get no factor: those of numbers from n."""
    null = low.add("Less", low.whole(n - 1), chosen)
    return low.add("Where", null, low.scalar(NULL_LOGIT), greatest)


def _factors(low: Lowering, logits: Value, greatest: Value, chosen: Value | None, gates: str) -> Value | None:
    """The factors of a token's experts, (rows, k); None where all are 1.

    Args:
        logits: The logits of all experts.
        greatest: The logits of these experts.
        chosen: the experts; None for all, in their order.
    """
    match gates:
        case "softmax":
            return low.add("Softmax", greatest, axis=1)
        case "softmax-all":
            return _probabilities(low, logits, chosen)
        case "sigmoid":
            scores = low.add("Sigmoid", greatest)
            return low.add("Div", scores, low.add("ReduceSum", scores, low.numbers([1]), keepdims=1))
        case _:
            return None


def _chosen_outputs(low: Lowering, experts: _Experts, rows: Value, chosen: Value, k: int, *, nulls: bool) -> Value:
    """The outputs of each row's k experts, (rows, k, width); an expert reads the rows that have chosen it.

    Args:
        nulls: True if some of the chosen experts are null, whose outputs are zero.
    """
    places = []
    outputs = [low.constant(np.zeros((1, experts.width), dtype=np.float32))] if nulls else []
    for i in range(experts.n):
        place = low.add("NonZero", low.add("Equal", chosen, low.whole(i)))
        places.append(place)
        outputs.append(experts.outputs(i, low.add("Gather", rows, _row(low, place, 0), axis=0)))
    pairs = _joined(low, places, axis=1)
    first = low.add("Mul", _row(low, pairs, 0), low.whole(k))
    positions = low.add("Add", first, _row(low, pairs, 1))
    # Where each pair of a row and its choice is among the outputs: the inverse of that order; null experts are at 0.
    size = low.add("Squeeze", low.add("Shape", positions), low.numbers([0]))
    constant_0, constant_1 = low.whole(0), low.whole(1)
    start, end, template = constant_0, size, positions
    if nulls:
        flat = low.add("Reshape", chosen, low.numbers([-1]))
        start, end, template = constant_1, low.add("Add", size, constant_1), low.add("Mul", flat, constant_0)
    at = low.add("ScatterElements", template, positions, low.add("Range", start, end, constant_1), axis=0)
    at = low.add("Reshape", at, low.numbers([-1, k]))
    return low.add("Gather", _joined(low, outputs, axis=0), at, axis=0)


def _row(low: Lowering, matrix: Value, i: int) -> Value:
    return low.add("Gather", matrix, low.whole(i), axis=0)


def _joined(low: Lowering, values: Sequence[Value], *, axis: int) -> Value:
    return values[0] if len(values) == 1 else low.add("Concat", *values, axis=axis)


def _added(low: Lowering, outputs: Value, factors: Value | None) -> Value:
    """The sum of outputs (rows, k, width), times factors (rows, k)."""
    if factors is not None:
        outputs = low.add("Mul", outputs, low.add("Unsqueeze", factors, low.numbers([2])))
    return low.add("ReduceSum", outputs, low.numbers([1]), keepdims=0)
