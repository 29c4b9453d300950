"""A small search space and a function over it, for tests of `nas.optimize`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import nas

SPACE: dict[str, list[int | float | str]] = {
    "depth": [1, 2, 3, 4],
    "width": [8, 12, 16, 24, 32],
    "activation": ["relu", "silu"],
}
OBJECTIVES = {"accuracy": "maximize", "latency_ms": "minimize"}


def evaluate(values: Mapping[str, Any]) -> dict[str, float]:
    """Deeper and wider is better and slower; one activation is slower and sometimes better."""
    depth, width, silu = values["depth"], values["width"], values["activation"] == "silu"
    accuracy = 1.0 - 1.0 / (1.0 + depth * np.sqrt(width)) + 0.01 * silu * (width == 16)
    return {"accuracy": float(accuracy), "latency_ms": 0.01 * depth * width + 0.05 * silu, "unused": 1.0}


def exact_front() -> set[tuple[float, float]]:
    """The non-dominated values of the whole space, by comparing all pairs."""
    space = nas.SearchSpace([nas.Choice(name, tuple(options)) for name, options in SPACE.items()])
    found = [evaluate(space.values(a)) for a in space.enumerate()]
    pairs = [(v["accuracy"], v["latency_ms"]) for v in found]
    return {
        (a, t) for a, t in pairs if not any(b >= a and u <= t and (b, u) != (a, t) for b, u in pairs)
    }  # fmt: skip


class InOrder(nas.SearchAlgorithm):
    """Asks for all candidates in the order of the space; an algorithm by its contract alone."""

    def __init__(
        self,
        space: nas.SearchSpace,
        objectives: Sequence[nas.Objective],
        *,
        seed: int,
        constraints: Sequence[nas.Constraint],
    ) -> None:
        ends = (space.smallest, space.largest)
        self.left = [architecture for architecture in space.enumerate() if architecture not in ends]
        self.objectives, self.constraints, self.seed = objectives, constraints, seed

    def ask(self, n: int) -> list[nas.Architecture]:
        asked, self.left = self.left[:n], self.left[n:]
        return asked

    def tell(self, evaluations: Sequence[nas.Evaluation]) -> None:
        """Learns nothing."""

    def replay(self, asked: Sequence[nas.Architecture]) -> list[nas.Architecture]:
        return self.ask(len(asked))
