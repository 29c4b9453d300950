"""Ordinary training of the largest network, the baseline of every strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from supernets.base import BatchLoss, Pass, Phase
from supernets.space import SearchSpace
from supernets.strategies.terms import passes


@dataclass(frozen=True)
class LargestStrategy:
    """Trains the largest network only; the others are slices of it."""

    space: SearchSpace
    teacher: Literal["none", "frozen"] = "none"

    def phases(self, epochs: int) -> Sequence[Phase]:
        return [Phase("largest", epochs)]

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
        return passes([self.space.largest], self.teacher)
