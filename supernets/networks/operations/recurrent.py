"""Recurrent layers and cells: LSTM, GRU and Elman networks."""

from __future__ import annotations

from typing import cast

from supernets.errors import LoweringError
from supernets.networks.capture.dimensions import (
    Dimension,
    MismatchError,
    concatenation,
    find,
    fix,
    fixed,
    product,
    unify,
)
from supernets.networks.capture.inference import Inference
from supernets.networks.capture.program import Argument, Call, refs
from supernets.networks.lowering.state import Lowering
from supernets.networks.onnx_graph.ir import Attribute, Value
from supernets.networks.operations.registry import Products, ResultDims, ResultValues, dims_of, lowers, rule_of, work_of

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""The number of gates, whose weights are stacked, by operation."""


def layers(call: Call) -> list[list[tuple[Argument, ...]]]:
    """The parameters of a recurrent call by layer and direction: weights of inputs and of states, then biases.

    Raises:
        MismatchError: the layers have projections, or the sequences are packed.
    """
    parameters = cast(tuple[Argument, ...], call.arguments.get("params", ()))
    n_layers, n_directions = cast(int, call.arguments["num_layers"]), 1 + bool(call.arguments["bidirectional"])
    n = 4 if call.arguments["has_biases"] else 2
    if not call.op.endswith(".input") or len(parameters) != n * n_layers * n_directions:
        raise MismatchError("projections or packed sequences")
    by_direction = [parameters[i : i + n] for i in range(0, len(parameters), n)]
    return [by_direction[i : i + n_directions] for i in range(0, len(by_direction), n_directions)]


@rule_of(*GATES)
def _recurrent_dims(ctx: Inference, call: Call) -> ResultDims:
    """All layers and both directions share the size of the state, which one tensor holds for all of them."""
    x = ctx.tensor_dims(call.arguments["input"])
    fix(x[1 if call.arguments["batch_first"] else 0], "a recurrent layer depends on the order")
    initial = list(map(ctx.tensor_dims, _states(call)))
    hidden, batch = initial[0][2], x[0 if call.arguments["batch_first"] else 1]
    for state in initial:
        unify(state[1], batch)
    parameters = layers(call)
    for state in initial:
        unify(state[2], hidden)
    features: Dimension = x[2]
    for layer in parameters:
        for weights, recurrent, *biases in layer:
            weight, state_weight = ctx.tensor_dims(weights), ctx.tensor_dims(recurrent)
            unify(weight[1], features)
            unify(state_weight[1], hidden)
            gates = product([fixed(GATES[call.name], "gates of a recurrent layer"), hidden])
            for stacked in (weight, state_weight, *map(ctx.tensor_dims, biases)):
                unify(stacked[0], gates)
        features = hidden if len(layer) == 1 else concatenation([hidden] * len(layer))
    state = [fixed(find(initial[0][0]).size, "layers"), batch, hidden]
    return [*x[:2], features], *([state] * len(initial))


@work_of("lstm", "gru", "rnn_tanh", "rnn_relu")
def _recurrent_work(inference: Inference, call: Call) -> Products:
    steps = dims_of(inference, call.arguments["input"])[:2]
    weights = [inference.dims[name] for name in refs(call.arguments["params"])]
    return [[*steps, *weight] for weight in weights if len(weight) == 2]


_CELLS = {"lstm_cell": "lstm", "gru_cell": "gru", "rnn_tanh_cell": "rnn_tanh", "rnn_relu_cell": "rnn_relu"}
"""The layers that do the steps of cells, by the cells' operations."""


@rule_of(*_CELLS)
def _cell_dims(ctx: Inference, call: Call) -> ResultDims:
    x, states = ctx.tensor_dims(call.arguments["input"]), list(map(ctx.tensor_dims, _states(call)))
    weight, state_weight, *biases = map(ctx.tensor_dims, _cell_parameters(call))
    hidden = states[0][1]
    for state in states:
        unify(state[0], x[0])
        unify(state[1], hidden)
    unify(weight[1], x[1])
    unify(state_weight[1], hidden)
    gates = product([fixed(GATES[_CELLS[call.name]], "gates of a recurrent layer"), hidden])
    for stacked in (weight, state_weight, *biases):
        unify(stacked[0], gates)
    results = [[x[0], hidden] for _ in states]
    return results[0] if len(results) == 1 else tuple(results)


@work_of(*_CELLS)
def _cell_work(inference: Inference, call: Call) -> Products:
    batch = dims_of(inference, call.arguments["input"])[0]
    return [[batch, *dims_of(inference, weight)] for weight in _cell_parameters(call)[:2]]


def _states(call: Call) -> tuple[Argument, ...]:
    """The states of a layer or a cell before its first step."""
    states = call.arguments["hx"]
    return states if isinstance(states, tuple) else (states,)


def _cell_parameters(call: Call) -> tuple[Argument, ...]:
    """The parameters of a cell: weights of inputs and of states, then biases, if it has them."""
    parameters = [call.arguments.get(name) for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
    return tuple(parameter for parameter in parameters if parameter is not None)


@lowers(*_CELLS)
def _lower_cell(low: Lowering, call: Call) -> ResultValues:
    """A cell as a layer whose sequence has one step."""

    def as_sequence(value: Argument) -> Value:
        return low.add("Unsqueeze", low.tensor(value), low.numbers([0]))

    states = _states(call)
    _, *finals = _layer(
        low,
        _CELLS[call.name],
        as_sequence(call.arguments["input"]),
        [_cell_parameters(call)],
        [as_sequence(state) for state in states],
        size=low.shape(states[0])[1],
    )
    results = [low.add("Squeeze", final, low.numbers([0])) for final in finals]
    return results[0] if len(results) == 1 else tuple(results)


_ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn_tanh": (0,), "rnn_relu": (0,)}
"""Torch's positions of the gates in ONNX's order, by operation."""


@lowers(*_ORDER)
def _lower_recurrent(low: Lowering, call: Call) -> ResultValues:
    a = call.arguments
    states = _states(call)
    x, parameters = low.tensor(a["input"]), layers(call)
    n, size = len(parameters[0]), low.shape(states[0])[2]
    train, dropout = a["train"], a["dropout"]
    if train and dropout:
        raise LoweringError("there is no rule for dropout between recurrent layers")
    if a["batch_first"]:
        x = low.add("Transpose", x, perm=(1, 0, 2))
    last: list[list[Value]] = []
    for i, layer in enumerate(parameters):
        initial = [
            low.add("Slice", low.tensor(state), low.numbers([i * n]), low.numbers([(i + 1) * n]), low.numbers([0]))
            for state in states
        ]
        y, *finals = _layer(low, call.name, x, layer, initial, size=size)
        last.append(finals)
        y = low.add("Transpose", y, perm=(0, 2, 1, 3))  # from steps, directions, examples
        x = low.add("Reshape", y, low.numbers([0, 0, n * size]))
    if a["batch_first"]:
        x = low.add("Transpose", x, perm=(1, 0, 2))
    finals = [
        layer_states[0] if len(layer_states) == 1 else low.add("Concat", *layer_states, axis=0)
        for layer_states in zip(*last, strict=True)
    ]
    return x, *finals


def _layer(
    low: Lowering, kind: str, x: Value, layer: list[tuple[Argument, ...]], initial: list[Value], *, size: int
) -> tuple[Value, ...]:
    """One layer: its results for each step (steps, directions, batch, size), and its last states.

    Args:
        x: (steps, batch, features).
        layer: Parameters by direction, as of `layers`.
        initial: States before the first step, (directions, batch, size) each.
    """
    settings: dict[str, Attribute] = {
        "hidden_size": size,
        "direction": "bidirectional" if len(layer) == 2 else "forward",
    }
    if kind == "gru":
        settings["linear_before_reset"] = 1
    elif kind == "rnn_relu":
        settings["activations"] = ["Relu"] * len(layer)
    inputs = [x, *_weights(low, kind, layer), None, *initial]
    return tuple(low.add_many(kind.partition("_")[0].upper(), inputs, 1 + len(initial), **settings))


def _weights(low: Lowering, kind: str, layer: list[tuple[Argument, ...]]) -> list[Value | None]:
    """The weights of inputs and of states, and biases, with a leading dimension of directions."""
    by_role = [[_ordered(low, kind, weight) for weight in role] for role in zip(*layer, strict=True)]
    stacked: list[Value | None] = [
        low.add("Concat", *[low.add("Unsqueeze", weight, low.numbers([0])) for weight in role], axis=0)
        for role in by_role[:2]
    ]
    if len(by_role) == 2:
        return [*stacked, None]
    biases = [low.add("Concat", *pair, axis=0) for pair in zip(*by_role[2:], strict=True)]
    return [*stacked, low.add("Concat", *[low.add("Unsqueeze", bias, low.numbers([0])) for bias in biases], axis=0)]


def _ordered(low: Lowering, kind: str, argument: Argument) -> Value:
    tensor = low.tensor(argument)
    if GATES[kind] == 1:
        return tensor
    parts = low.add_many("Split", [tensor], GATES[kind], axis=0, num_outputs=GATES[kind])
    return low.add("Concat", *[parts[i] for i in _ORDER[kind]], axis=0)
