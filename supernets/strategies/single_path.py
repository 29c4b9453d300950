"""Single-path one-shot training: one uniformly sampled subnet a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from supernets.base import Pass, Phase
from supernets.space import Architecture, SearchSpace
from supernets.strategies.terms import taught


@dataclass(frozen=True)
class SinglePathStrategy:
    """One random subnet a step, trained on the labels (Guo et al. 2019, arXiv 1904.00420), and on a frozen teacher if there
    is one."""

    space: SearchSpace
    teacher: Literal["none", "frozen"] = "none"

    def phases(self, epochs: int) -> Sequence[Phase]:
        return [Phase("single-path", epochs)]

    def plan(self, phase: int, rng: np.random.Generator, probe: Callable[[Architecture], float]) -> Sequence[Pass]:
        return taught([self.space.sample(rng)], self.teacher)
