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
from supernets.networks.onnx_graph import functions
from supernets.networks.onnx_graph.ir import ROWS, Graph, Shape, Value
from supernets.networks.operations.own import onnx_of, own_rule, own_work
from supernets.networks.operations.registry import Products, dims_of


class _Experts:
    """The weights of the experts of a layer, of which only the parts that are read become tensors of the model."""

    def __init__(
        self, graph: Graph, up: Value, down: Value, gate: Value | None, up_bias: Value | None, activation: str
    ) -> None:
        self._graph, self._activation = graph, activation
        self._up, self._down, self._gate, self._up_bias = up, down, gate, up_bias
        self.n, self.hidden, self.inputs = up.shape
        self.width = down.shape[1]

    def outputs(self, i: int, rows: Value) -> Value:
        """The outputs of expert `i` for rows (rows, inputs)."""
        return functions.matmul(self._graph, self._inner(i, rows), self._part(self._down, i))

    def joined(self, rows: Value, factors: Value | None) -> Value:
        """The outputs of all experts for rows (rows, inputs), added up with factors (rows, experts); None for 1."""
        graph = self._graph
        inner = self._inner(None, rows)
        if factors is None:
            return functions.matmul(graph, inner, self._part(self._down, None))
        shape = (ROWS, self.n, self.hidden)
        parted = graph.add("Reshape", [inner, graph.numbers([-1, self.n, self.hidden])], shape)
        expanded = graph.add("Unsqueeze", [factors, graph.numbers([2])], (ROWS, self.n, 1))
        scaled = functions.multiply(graph, parted, expanded)
        channels = self.n * self.hidden
        flat = graph.add("Reshape", [scaled, graph.numbers([-1, channels])], (ROWS, channels))
        return functions.matmul(graph, flat, self._part(self._down, None))

    def _inner(self, i: int | None, rows: Value) -> Value:
        graph, part = self._graph, self._part
        up = functions.matmul(graph, rows, part(self._up, i))
        if self._up_bias is not None:
            up = functions.add(graph, up, part(self._up_bias, i))
        if self._gate is None:
            return self._activated(up)
        return functions.multiply(graph, self._activated(functions.matmul(graph, rows, part(self._gate, i))), up)

    def _activated(self, x: Value) -> Value:
        match self._activation:
            case "silu":
                return functions.silu(self._graph, x)
            case "gelu":
                return functions.gelu(self._graph, x)
            case _:
                return functions.gelu(self._graph, x, approximate="tanh")

    def _part(self, stack: Value, i: int | None) -> Value:
        """A bias, or a matrix as a product reads it, (inputs, outputs), of expert `i`, or of all joined to one MLP."""
        array = self._graph.parameters[stack.name]
        if i is not None:
            return self._stored(f"{stack.name}.{i}", array[i] if array.ndim == 2 else array[i].T)
        if array.ndim == 2:
            return self._stored(f"{stack.name}.all", array.reshape(-1))
        if stack is self._down:  # (experts, width, hidden)
            return self._stored(f"{stack.name}.all", array.transpose(0, 2, 1).reshape(-1, self.width))
        return self._stored(f"{stack.name}.all", array.reshape(-1, self.inputs).T)

    def _stored(self, name: str, array: NDArray[np.generic]) -> Value:
        self._graph.parameters[name] = array
        return self._graph.input(name, array.shape)


@own_rule("mixed_experts", neutral=("active", "top_p", "gates", "activation"))
def _mixed_experts_dims(ctx: Inference, call: Call) -> None:
    x, logits, up, down = (ctx.tensor_dims(call.arguments[name]) for name in ("x", "logits", "up", "down"))
    unify(x[-1], up[2])
    unify(up[0], down[0])
    unify(up[1], down[2])
    for name, expected in (("gate", up), ("up_bias", up[:2])):
        if (dims := ctx.optional_dims(call.arguments[name])) is not None:
            for a, b in zip(dims, expected, strict=True):
                unify(a, b)
    n_experts, n_logits = find(up[0]).size, find(logits[-1]).size
    experts = logits[-1] if n_experts == n_logits else split(logits[-1], [n_experts, n_logits - n_experts])[0]
    unify(experts, up[0])
    ctx.returns(call, [*x[:-1], down[1]])


@own_work("mixed_experts")
def _mixed_experts_work(inference: Inference, call: Call) -> Products:
    """The products of a token that chooses no null expert and needs all experts for `top_p`."""
    a, outputs = call.arguments, inference.dims[call.outputs[0]]
    up, lead = dims_of(inference, a["up"]), [*outputs[:-1], *dims_of(inference, a["active"])]
    n_first = 1 + (a["gate"] is not None)
    return [([*lead, up[1], up[2]], [*lead, up[1]])] * n_first + [([*lead, up[1], outputs[-1]], [*lead, outputs[-1]])]


@onnx_of("mixed_experts")
def mixed_experts(
    graph: Graph,
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
    if any(value is not None and value.name not in graph.parameters for value in (active, up, down, top_p)):
        raise LoweringError("there is no rule for experts whose weights are computed; make them parameters")
    experts, k = _Experts(graph, up, down, gate, up_bias, activation), active.shape[0]
    rows = graph.add("Reshape", [x, graph.numbers([-1, experts.inputs])], (ROWS, experts.inputs))
    n_logits = logits.shape[-1]
    flat = graph.add("Reshape", [logits, graph.numbers([-1, n_logits])], (ROWS, n_logits))
    limit = UNLIMITED if top_p is None else float(graph.parameters[top_p.name].max())
    if k == experts.n == n_logits and limit > 1:
        mixed = experts.joined(rows, _factors(graph, flat, flat, None, gates))
    else:
        greatest, chosen = _top(graph, flat, k)
        numbers = chosen if limit > 1 else _within_top_p(graph, flat, chosen, limit, experts.n)
        nulls = n_logits > experts.n or limit <= 1
        if nulls and gates == "softmax":
            greatest = _without_nulls(graph, greatest, numbers, experts.n)
        outputs = _chosen_outputs(graph, experts, rows, numbers, nulls=nulls)
        mixed = _added(graph, outputs, _factors(graph, flat, greatest, chosen, gates))
    if x.rank == 2:
        return mixed
    shape = (*x.shape[:-1], experts.width)
    if all(size > 0 for size in shape[1:]):
        return graph.add("Reshape", [mixed, graph.numbers([-1, *shape[1:]])], shape)
    leading = graph.add("Shape", [x], (x.rank - 1,), end=x.rank - 1)
    return graph.add("Reshape", [mixed, _joined(graph, [leading, graph.numbers([-1])], (x.rank,), axis=0)], shape)


def _top(graph: Graph, logits: Value, k: int) -> tuple[Value, Value]:
    """The greatest logits of each row, (rows, k), and their experts."""
    greatest, chosen = graph.add_many("TopK", [logits, graph.numbers([k])], [(ROWS, k)] * 2, axis=1)
    return greatest, chosen


def _within_top_p(graph: Graph, logits: Value, chosen: Value, limit: float, n: int) -> Value:
    """The experts of a row, (rows, k); `n`, as of a null one, where the probabilities of those before it sum to `limit`."""
    before = graph.add("CumSum", [_probabilities(graph, logits, chosen), graph.whole(1)], chosen.shape, exclusive=1)
    is_within = graph.add("Less", [before, graph.scalar(limit)], chosen.shape)
    return graph.add("Where", [is_within, chosen, graph.whole(n)], chosen.shape)


def _probabilities(graph: Graph, logits: Value, chosen: Value | None) -> Value:
    """The probabilities of a row's experts, (rows, k), or of all."""
    shares = graph.add("Softmax", [logits], logits.shape, axis=1)
    return shares if chosen is None else graph.add("GatherElements", [shares, chosen], chosen.shape, axis=1)


def _without_nulls(graph: Graph, greatest: Value, chosen: Value, n: int) -> Value:
    """The logits of a row's experts, (rows, k), where null ones get no factor: those of numbers from n."""
    null = graph.add("Less", [graph.whole(n - 1), chosen], chosen.shape)
    return graph.add("Where", [null, graph.scalar(NULL_LOGIT), greatest], greatest.shape)


def _factors(graph: Graph, logits: Value, greatest: Value, chosen: Value | None, gates: str) -> Value | None:
    """The factors of a token's experts, (rows, k); None where all are 1.

    Args:
        logits: The logits of all experts.
        greatest: The logits of these experts.
        chosen: the experts; None for all, in their order.
    """
    match gates:
        case "softmax":
            return graph.add("Softmax", [greatest], greatest.shape, axis=1)
        case "softmax-all":
            return _probabilities(graph, logits, chosen)
        case "sigmoid":
            return _shares(graph, graph.add("Sigmoid", [greatest], greatest.shape))
        case _:
            return None


def _shares(graph: Graph, scores: Value) -> Value:
    total = graph.add("ReduceSum", [scores, graph.numbers([1])], (ROWS, 1), keepdims=1)
    return functions.divide(graph, scores, total)


def _chosen_outputs(graph: Graph, experts: _Experts, rows: Value, chosen: Value, *, nulls: bool) -> Value:
    """The outputs of each row's experts, (rows, k, width); an expert reads the rows that have chosen it.

    Args:
        nulls: True if some of the chosen experts are null, whose outputs are zero.
    """
    (_, inputs), (_, k), width, places = rows.shape, chosen.shape, experts.width, []
    outputs = [graph.constant(np.zeros((1, width), dtype=np.float32))] if nulls else []
    for i in range(experts.n):
        hit = graph.add("Equal", [chosen, graph.whole(i)], chosen.shape)
        place = graph.add("NonZero", [hit], (2, ROWS))
        places.append(place)
        outputs.append(experts.outputs(i, graph.add("Gather", [rows, _row(graph, place, 0)], (ROWS, inputs), axis=0)))
    pairs = _joined(graph, places, (2, ROWS), axis=1)
    first = graph.add("Mul", [_row(graph, pairs, 0), graph.whole(k)], (ROWS,))
    positions = graph.add("Add", [first, _row(graph, pairs, 1)], (ROWS,))
    # Where each pair of a row and its choice is among the outputs: the inverse of that order; null experts are at 0.
    size = graph.add("Squeeze", [graph.add("Shape", [positions], (1,)), graph.numbers([0])], ())
    constant_0, constant_1 = graph.whole(0), graph.whole(1)
    start, end, template = constant_0, size, positions
    if nulls:
        flat = graph.add("Reshape", [chosen, graph.numbers([-1])], (ROWS,))
        start, end, template = (
            constant_1,
            graph.add("Add", [size, constant_1], ()),
            graph.add("Mul", [flat, constant_0], (ROWS,)),
        )
    at = graph.add(
        "ScatterElements", [template, positions, graph.add("Range", [start, end, constant_1], (ROWS,))], (ROWS,), axis=0
    )
    at = graph.add("Reshape", [at, graph.numbers([-1, k])], (ROWS, k))
    return graph.add("Gather", [_joined(graph, outputs, (ROWS, width), axis=0), at], (ROWS, k, width), axis=0)


def _row(graph: Graph, matrix: Value, i: int) -> Value:
    return graph.add("Gather", [matrix, graph.whole(i)], (ROWS,), axis=0)


def _joined(graph: Graph, values: Sequence[Value], shape: Shape, *, axis: int) -> Value:
    return values[0] if len(values) == 1 else graph.add("Concat", values, shape, axis=axis)


def _added(graph: Graph, outputs: Value, factors: Value | None) -> Value:
    """The sum of outputs (rows, k, width), times factors (rows, k)."""
    rows, k, width = outputs.shape
    if factors is not None:
        expanded = graph.add("Unsqueeze", [factors, graph.numbers([2])], (rows, k, 1))
        outputs = functions.multiply(graph, outputs, expanded)
    return graph.add("ReduceSum", [outputs, graph.numbers([1])], (rows, width), keepdims=0)
