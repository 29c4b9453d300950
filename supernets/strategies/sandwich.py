"""The sandwich rule: the largest, the smallest and a few random subnets every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from supernets.base import BatchLoss, Pass, Phase
from supernets.space import SearchSpace
from supernets.strategies.terms import Teacher, passes


@dataclass(frozen=True)
class SandwichStrategy:
    """Trains the largest, the smallest and `random_subnets` random subnets every step (Yu and Huang 2019, arXiv 1903.05134).

    With the teacher ``largest``, the others learn only from the largest's outputs (in-place distillation, same paper).
    """

    space: SearchSpace
    random_subnets: int = 2
    teacher: Teacher = "largest"

    def phases(self, epochs: int) -> Sequence[Phase]:
        return [Phase("sandwich", epochs)]

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
        random = (self.space.sample(rng) for _ in range(self.random_subnets))
        return passes([self.space.largest, self.space.smallest, *random], self.teacher)
