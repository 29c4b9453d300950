"""Single-path one-shot training: one uniformly sampled subnet a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from supernets.base import LabelLoss, Pass, Phase
from supernets.space import Architecture, SearchSpace


@dataclass(frozen=True)
class SinglePathStrategy:
    """One random subnet a step, trained on the labels (Guo et al. 2019, arXiv 1904.00420)."""

    space: SearchSpace

    def phases(self, epochs: int) -> Sequence[Phase]:
        return [Phase("single-path", epochs)]

    def plan(self, phase: int, rng: np.random.Generator, probe: Callable[[Architecture], float]) -> Sequence[Pass]:
        return [Pass(self.space.sample(rng), (LabelLoss(),))]
