"""SortedNet: one nested subnet a micro-batch, several of them a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from supernets.base import Pass, Phase
from supernets.space import Architecture, SearchSpace
from supernets.strategies.terms import taught


@dataclass(frozen=True)
class SortedStrategy:
    """Each of `micro_batches` parts of a step's batch trains one random subnet, and one optimiser's step takes all.

    Valipour et al. 2023 (SortedNet, arXiv 2309.00255). The subnets of their method are nested: give it the space of a
    `NestedFamily`. A step costs what one of ordinary training does. The weights are averaged over the parts, which are
    as good as equal, so that the step is that of a mean loss. Each part is drawn uniformly, as in the paper.

    Attributes:
        micro_batches: 1 is the paper's ablation without accumulation.
    """

    space: SearchSpace
    micro_batches: int = 4
    teacher: Literal["none", "frozen"] = "none"

    def phases(self, epochs: int) -> Sequence[Phase]:
        return [Phase("sorted", epochs)]

    def plan(self, phase: int, rng: np.random.Generator, probe: Callable[[Architecture], float]) -> Sequence[Pass]:
        n = self.micro_batches
        passes = taught([self.space.sample(rng) for _ in range(n)], self.teacher)
        return [
            replace(p, part=(i, n), terms=tuple(replace(term, weight=1 / n) for term in p.terms))
            for i, p in enumerate(passes)
        ]
