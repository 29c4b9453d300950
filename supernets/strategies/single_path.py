"""Single-path one-shot training: one uniformly sampled subnet per step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from supernets.base import BatchLoss, Pass, Phase
from supernets.space import SearchSpace
from supernets.strategies.terms import passes


@dataclass(frozen=True)
class SinglePathStrategy:
    """Trains one random subnet per step on the labels (Guo et al. 2019, arXiv 1904.00420), optionally with a frozen teacher."""

    space: SearchSpace
    teacher: Literal["none", "frozen"] = "none"

    def phases(self, epochs: int) -> Sequence[Phase]:
        return [Phase("single-path", epochs)]

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
        return passes([self.space.sample(rng)], self.teacher)
