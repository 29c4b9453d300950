"""ONNX's recurrent layers by torch's: their weights have other orders of gates, and are divided by direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernets.errors import CaptureError
from supernets.networks.onnx_models.registry import Node, OperatorCall, operator

_DIRECTIONS = {"forward": 1, "bidirectional": 2}
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""The position of each of torch's gates among ONNX's: i o f c becomes i f g o, and z r h becomes r z n."""
_PARTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
_ROLES = ("", *_PARTS, *(f"{part}_reverse" for part in _PARTS))
GATES: Mapping[str, tuple[str, ...]] = dict.fromkeys(_ORDER, _ROLES)
"""The names of the parameters of recurrent nodes after `divided_weights`, one for each input."""


def divided_weights(node: Node, constants: dict[str, NDArray[Any]]) -> Node:
    """The node with a weight of inputs and of states, and two biases, for each direction, in torch's order.

    Its inputs are then the sequence, the weights, and at last the first states.
    """
    inputs = [*node.inputs, *[""] * (8 - len(node.inputs))]
    direction = node.attributes.get("direction", "forward")
    size, arrays = node.attributes.get("hidden_size"), [constants.get(name) for name in inputs[1:4]]
    default = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}[node.op]
    functions = tuple(node.attributes.get("activations") or default * _DIRECTIONS.get(direction, 1))
    is_relu = node.op == "RNN" and set(functions) == {"Relu"}
    unread = {
        f"the direction {direction}": direction not in _DIRECTIONS,
        "other activations": not is_relu and functions != default * _DIRECTIONS.get(direction, 1),
        "clipped states": bool(node.attributes.get("clip")),
        "batches first (layout)": bool(node.attributes.get("layout")),
        "coupled gates": bool(node.attributes.get("input_forget")),
        "peepholes": bool(inputs[7]),
        "sequences of several lengths": bool(inputs[4]),
        "a reset before the product (linear_before_reset: 0)": node.op == "GRU"
        and not node.attributes.get("linear_before_reset"),
        "computed weights": arrays[0] is None or arrays[1] is None or bool(inputs[3] and arrays[2] is None),
    }
    for feature, is_unread in unread.items():
        if is_unread:
            raise CaptureError(
                f"{node.title}: {feature} cannot be read; write the file without it", code="capture.unknown-operation"
            )
    w, r, b = arrays
    if w is None or r is None or w.ndim != 3 or r.ndim != 3 or not isinstance(size, int):
        raise CaptureError(f"{node.title}: its weights have other shapes", code="capture.onnx-malformed")
    n_gates, order = len(_ORDER[node.op]), _ORDER[node.op]
    b = np.zeros((len(w), 2 * n_gates * size), np.float32) if b is None else b
    names, result = [], next((name for name in node.outputs if name), "")
    for i in range(_DIRECTIONS[direction]):
        halves = (w[i], r[i], b[i][: n_gates * size], b[i][n_gates * size :])
        for part, array in zip(_PARTS, halves, strict=True):
            name = f"{result}/{part}{i}"
            gates = np.split(array, n_gates)
            constants[name] = np.concatenate([gates[position] for position in order])
            names.append(name)
    names += [""] * (8 - len(names))
    return replace(
        node, inputs=[inputs[0], *names, inputs[5], inputs[6]], attributes={**node.attributes, "relu": is_relu}
    )


@operator("LSTM", "GRU", "RNN")
def _recurrent(call: OperatorCall) -> Any:
    """(steps, n, inputs) -> (steps, directions, n, size), and the last states (directions, n, size)."""
    x = call.tensor(0)
    weights = [call.tensor(i) for i in range(1, 9) if call.has(i)]
    n_directions, size = len(weights) // 4, weights[1].shape[1]
    states = [_state(call, index, x, n_directions, size) for index in (9, 10)]
    options = (True, 1, 0.0, False, n_directions == 2, False)
    if call.node.op == "LSTM":
        out, h, c = torch.lstm(x, states, weights, *options)
        last: tuple[Tensor, ...] = (h, c)
    elif call.node.op == "GRU":
        out, h = torch.gru(x, states[0], weights, *options)
        last = (h,)
    else:
        function = torch.rnn_relu if call.attribute("relu") else torch.rnn_tanh
        out, h = function(x, states[0], weights, *options)
        last = (h,)
    steps, n = x.shape[:2]
    return (out.reshape(steps, n, n_directions, size).transpose(1, 2), *last)


def _state(call: OperatorCall, index: int, x: Tensor, n_directions: int, size: int) -> Tensor:
    """The first states: those of the file, for each example, or zeros."""
    state = call.optional(index)
    if state is None:
        return x.new_zeros(n_directions, x.shape[1], size)
    return state if state.shape[1] == x.shape[1] else state.expand(n_directions, x.shape[1], size)
