"""SortedNet: one nested subnet per micro-batch, several micro-batches per step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from supernets.base import BatchLoss, Pass, Phase
from supernets.space import SearchSpace
from supernets.strategies.terms import passes


@dataclass(frozen=True)
class SortedStrategy:
    """Trains one uniformly sampled subnet on each of `micro_batches` parts of a step's batch, in one optimiser step.

    Valipour et al. 2023 (SortedNet, arXiv 2309.00255). Their subnets are nested: use the space of a `NestedFamily`. A step
    costs as much as one of ordinary training. Losses are averaged over the parts.

    Attributes:
        micro_batches: 1 is the paper's ablation without gradient accumulation.
    """

    space: SearchSpace
    micro_batches: int = 4
    teacher: Literal["none", "frozen"] = "none"

    def phases(self, epochs: int) -> Sequence[Phase]:
        return [Phase("sorted", epochs)]

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
        n = self.micro_batches
        found = passes([self.space.sample(rng) for _ in range(n)], self.teacher)
        return [
            replace(p, part=(i, n), terms=tuple(replace(term, weight=1 / n) for term in p.terms))
            for i, p in enumerate(found)
        ]
