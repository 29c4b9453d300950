"""The time of a layer of experts in ONNX Runtime: each expert with its own tokens, beside all experts with all tokens.

    python -m tests.benchmarks.experts_onnx [--width 256] [--hidden 512] [--rounds 15] [--json]

Method. One gated layer with random weights, the CPU provider, one thread, all optimisations. *Gathered* is what `lower` writes:
each expert reads the tokens that chose it. *Dense* is what `lower` writes of the same layer where tokens are sent to all
experts, one MLP of all experts' channels: what a formulation without gathering computes, but for its mask of zeros, which is
left out in its favour. The gathered outputs are checked against torch's, with experts that a token has not chosen multiplied by
zero. Tokens are random normal, so that every expert has about as many. Milliseconds of wall clock, the median over rounds, in
which both run in turns; a round takes at least 20 ms of runs.
"""

from __future__ import annotations

import json
import time
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer

from supernets.experts.layer import ExpertLayer
from supernets.networks.module_to_onnx import INPUT, lower
from tests.benchmarks.build_and_open import open_session
from tests.supernets.families import by_hand

TOKENS = (1, 16, 128, 1024)
ACTIVE = ((4, 1), (4, 2), (8, 1), (8, 2), (8, 4), (16, 2), (16, 4), (32, 4))
"""Experts of a layer, and those of each token."""
_ROUND_S = 0.02


def main(
    width: int = 256,
    hidden: int = 512,
    rounds: int = 15,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Times all cases and prints each."""
    torch.manual_seed(0)
    for experts, active in ACTIVE:
        for tokens in TOKENS:
            row = timed(width, hidden, experts, active, tokens, rounds)
            own = [f"{row[key]:.3f}" for key in ("gathered_ms", "dense_ms", "ratio")]
            text = json.dumps(row) if as_json else f"| {experts} | {active} | {tokens} | {' | '.join(own)} |"
            print(text, flush=True)


@torch.no_grad()
def timed(width: int, hidden: int, experts: int, active: int, tokens: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of one case."""
    options: dict[str, Any] = {
        "experts": experts,
        "gates": "softmax",
        "gated": True,
        "activation": "silu",
        "bias": False,
    }
    layer = ExpertLayer(width, hidden, active=active, **options).eval()
    every = ExpertLayer(width, hidden, active=experts, **options).eval()
    x = torch.randn(1, tokens, width)
    sessions = {
        name: open_session(lower(own, x.expand(2, -1, -1))) for name, own in (("gathered", layer), ("dense", every))
    }
    weights = {f"mlp.{name}": tensor for name, tensor in layer.state_dict().items()}
    expected = by_hand.experts(weights, "mlp", x, active, torch.nn.functional.silu, "softmax").numpy()
    found = sessions["gathered"].run(None, {INPUT: x.numpy()})[0]
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(expected.std()))
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            seconds[name].append(_of_one(session, x.numpy()))
    own = {f"{name}_ms": 1e3 * median(values) for name, values in seconds.items()}
    ratio = own["dense_ms"] / own["gathered_ms"]
    return {"experts": experts, "active": active, "tokens": tokens, **own, "ratio": ratio}


def _of_one(session: Any, x: Any) -> float:
    """Seconds of one run: the mean over runs that take at least `_ROUND_S` together."""
    session.run(None, {INPUT: x})
    started, n = time.perf_counter(), 0
    while time.perf_counter() - started < _ROUND_S or n < 1:
        session.run(None, {INPUT: x})
        n += 1
    return (time.perf_counter() - started) / n


if __name__ == "__main__":
    typer.run(main)
