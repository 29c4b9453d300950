"""Rules of recurrent layers: LSTM, GRU and Elman networks."""

from __future__ import annotations

from typing import cast

from supernets.capture.dimensions import Dimension, MismatchError, concatenation, find, fixed, product, unify
from supernets.capture.inference import Inference
from supernets.capture.program import Argument, Call
from supernets.capture.rules.registry import rule_of

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""By operation, the number of gates, whose weights are stacked."""


def layers(call: Call) -> list[list[tuple[Argument, ...]]]:
    """The parameters of a recurrent call by layer and direction: weights of inputs and of states, then biases.

    Raises:
        MismatchError: the layers have projections, or the sequences are packed.
    """
    given = cast(tuple[Argument, ...], call.arguments.get("params", ()))
    n_layers, n_directions = cast(int, call.arguments["num_layers"]), 1 + bool(call.arguments["bidirectional"])
    n = 4 if call.arguments["has_biases"] else 2
    if not call.op.endswith(".input") or len(given) != n * n_layers * n_directions:
        raise MismatchError("projections or packed sequences")
    own = [given[i : i + n] for i in range(0, len(given), n)]
    return [own[i : i + n_directions] for i in range(0, len(own), n_directions)]


@rule_of(*GATES)
def _recurrent(ctx: Inference, call: Call) -> None:
    """All layers and both directions share the size of the state, which one tensor holds for all of them."""
    x, parameters = ctx.of(call.arguments["input"]), layers(call)
    states = call.arguments["hx"]
    initial = [ctx.of(state) for state in (states if isinstance(states, tuple) else (states,))]
    hidden, batch = initial[0][2], x[0 if call.arguments["batch_first"] else 1]
    for state in initial:
        unify(state[1], batch)
        unify(state[2], hidden)
    features: Dimension = x[2]
    for layer in parameters:
        for weights, recurrent, *biases in layer:
            weight, state_weight = ctx.of(weights), ctx.of(recurrent)
            unify(weight[1], features)
            unify(state_weight[1], hidden)
            gates = product([fixed(GATES[call.name], "gates of a recurrent layer"), hidden])
            for stacked in (weight, state_weight, *map(ctx.of, biases)):
                unify(stacked[0], gates)
        features = hidden if len(layer) == 1 else concatenation([hidden] * len(layer))
    state = [fixed(find(initial[0][0]).size, "layers"), batch, hidden]
    ctx.returns(call, [*x[:2], features], *([state] * len(initial)))
