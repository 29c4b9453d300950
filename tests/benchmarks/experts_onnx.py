"""The time of a layer of experts in ONNX Runtime: each expert with its own tokens, beside all experts with all tokens.

    python -m tests.benchmarks.experts_onnx [--width 256] [--hidden 512] [--rounds 15] [--json]

Method. One gated layer with random weights, the CPU provider, one thread, all optimisations. *Gathered* is what `lower` writes:
each expert reads the tokens that chose it. *Dense* is the same layer as one MLP of all experts' channels, in which those of
experts that a token has not chosen are multiplied by zero: what `lower` writes where tokens have all experts, with a mask. The
two are checked to give the same outputs; tokens are random normal, so that every expert has about as many. Milliseconds of wall
clock, the median over rounds, in which both run in turns; a round takes at least 20 ms of runs.
"""

from __future__ import annotations

import json
import time
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn

from supernets.experts.layer import ExpertLayer
from supernets.graph import INPUT, lower
from tests.benchmarks.build_and_open import open_session
from tests.benchmarks.supernets.study import console

TOKENS = (1, 16, 128, 1024)
ACTIVE = ((4, 1), (4, 2), (8, 1), (8, 2), (8, 4), (16, 2), (16, 4), (32, 4))
"""Experts of a layer, and those of each token."""
_ROUND_S = 0.02


class Masked(nn.Module):
    """The layer as one MLP of all experts, whose inner channels are multiplied by the experts' factors or zero."""

    def __init__(self, layer: ExpertLayer, active: int) -> None:
        super().__init__()
        experts, hidden, width = layer.up.shape
        assert layer.gate is not None
        self.experts, self.hidden, self.active = experts, hidden, active
        self.router = layer.router
        self.up, self.gate = (nn.Linear(width, experts * hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(experts * hidden, width, bias=False)
        self.up.weight, self.gate.weight = (nn.Parameter(own.detach().flatten(0, 1)) for own in (layer.up, layer.gate))
        self.down.weight = nn.Parameter(layer.down.detach().transpose(0, 1).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        logits = self.router(x)
        least = logits.topk(self.active, dim=-1).values[..., -1:]
        factors = logits.masked_fill(logits < least, -torch.inf).softmax(-1)
        inner = nn.functional.silu(self.gate(x)) * self.up(x)
        scaled = inner.unflatten(-1, (self.experts, self.hidden)) * factors[..., None]
        found: Tensor = self.down(scaled.flatten(-2))
        return found


def main(
    width: int = 256,
    hidden: int = 512,
    rounds: int = 15,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Times all cases and prints the results."""
    torch.manual_seed(0)
    report = [timed(width, hidden, experts, active, tokens, rounds) for experts, active in ACTIVE for tokens in TOKENS]
    if as_json:
        print(json.dumps(report, indent=1))
        return
    for row in report:
        console.print({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})


def timed(width: int, hidden: int, experts: int, active: int, tokens: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of one case."""
    options: dict[str, Any] = {"gates": "softmax", "gated": True, "activation": "silu", "bias": False}
    layer = ExpertLayer(width, hidden, experts=experts, active=active, **options).eval()
    x = torch.randn(1, tokens, width)
    sessions = {
        "gathered": open_session(lower(layer, (tokens, width))),
        "dense": open_session(exported(Masked(layer, active), x)),
    }
    found = {name: own.run(None, {INPUT: x.numpy()})[0] for name, own in sessions.items()}
    np.testing.assert_allclose(found["gathered"], found["dense"], atol=1e-4 * float(np.std(found["dense"])))
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            seconds[name].append(_of_one(session, x.numpy()))
    own = {f"{name}_ms": 1e3 * median(values) for name, values in seconds.items()}
    return {
        "experts": experts, "active": active, "tokens": tokens, **own, "ratio": own["dense_ms"] / own["gathered_ms"],
    }  # fmt: skip


def exported(module: nn.Module, x: Tensor) -> bytes:
    """The masked layer by torch's exporter."""
    from supernets.module_to_onnx import to_onnx

    return to_onnx(module.eval(), x.expand(2, -1, -1))


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
