"""Lowering of recurrent layers, whose gates ONNX orders otherwise than torch."""

from __future__ import annotations

from typing import cast

from supernets.capture.lowering.state import Lowering, lowers
from supernets.capture.program import Argument, Call, Ref
from supernets.capture.rules.recurrent import GATES, layers
from supernets.errors import LoweringError
from supernets.graph.ir import Attribute, Value

_ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn_tanh": (0,)}
"""By operation, torch's positions of the gates in ONNX's order."""


@lowers(*_ORDER)
def _recurrent(low: Lowering, call: Call) -> None:
    a = call.arguments
    states = a["hx"] if isinstance(a["hx"], tuple) else (a["hx"],)
    x, parameters = low.tensor(a["input"]), layers(call)
    n, size = len(parameters[0]), low.shape(cast(Ref, states[0]).name)[2]
    settings: dict[str, Attribute] = {
        "hidden_size": size,
        "direction": "bidirectional" if n == 2 else "forward",
        **({"linear_before_reset": 1} if call.name == "gru" else {}),
    }
    if a["train"] and a["dropout"]:
        raise LoweringError("there is no rule for dropout between recurrent layers")
    if a["batch_first"]:
        x = low.one("Transpose", x, perm=(1, 0, 2))
    last: list[list[Value]] = []
    for i, layer in enumerate(parameters):
        initial = [
            low.one("Slice", low.tensor(state), low.numbers([i * n]), low.numbers([(i + 1) * n]), low.numbers([0]))
            for state in states
        ]
        inputs = [x, *_weights(low, call.name, layer), None, *initial]
        y, *finals = low.emit(
            {"rnn_tanh": "RNN"}.get(call.name, call.name.upper()), inputs, settings, n=1 + len(states)
        )
        last.append(finals)
        y = low.one("Transpose", y, perm=(0, 2, 1, 3))  # from steps, directions, examples
        x = low.one("Reshape", y, low.numbers([0, 0, n * size]))
    if a["batch_first"]:
        x = low.one("Transpose", x, perm=(1, 0, 2))
    finals = [one[0] if len(one) == 1 else low.one("Concat", *one, axis=0) for one in zip(*last, strict=True)]
    low.returns(call, x, *finals)


def _weights(low: Lowering, kind: str, layer: list[tuple[Argument, ...]]) -> list[Value | None]:
    """The weights of inputs and of states, and biases, with a leading dimension of directions."""
    by_role = [[_ordered(low, kind, one) for one in role] for role in zip(*layer, strict=True)]
    stacked: list[Value | None] = [
        low.one("Concat", *[low.one("Unsqueeze", one, low.numbers([0])) for one in role], axis=0)
        for role in by_role[:2]
    ]
    if len(by_role) == 2:
        return [*stacked, None]
    both = [low.one("Concat", *pair, axis=0) for pair in zip(*by_role[2:], strict=True)]
    return [*stacked, low.one("Concat", *[low.one("Unsqueeze", one, low.numbers([0])) for one in both], axis=0)]


def _ordered(low: Lowering, kind: str, argument: Argument) -> Value:
    tensor = low.tensor(argument)
    if GATES[kind] == 1:
        return tensor
    parts = low.emit("Split", [tensor], {"axis": 0, "num_outputs": GATES[kind]}, n=GATES[kind])
    return low.one("Concat", *[parts[i] for i in _ORDER[kind]], axis=0)
