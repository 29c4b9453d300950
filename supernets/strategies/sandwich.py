"""The sandwich rule: the largest, the smallest and a few random subnets every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from supernets.base import Pass, Phase
from supernets.space import Architecture, SearchSpace
from supernets.strategies.terms import Teacher, taught


@dataclass(frozen=True)
class SandwichStrategy:
    """Largest, smallest and `random_subnets` random ones a step (Yu and Huang 2019, arXiv 1903.05134).

    With the teacher ``largest``, all but the largest learn from the largest's outputs alone (in-place distillation, same
    paper).
    """

    space: SearchSpace
    random_subnets: int = 2
    teacher: Teacher = "largest"

    def phases(self, epochs: int) -> Sequence[Phase]:
        return [Phase("sandwich", epochs)]

    def plan(self, phase: int, rng: np.random.Generator, probe: Callable[[Architecture], float]) -> Sequence[Pass]:
        random = (self.space.sample(rng) for _ in range(self.random_subnets))
        return taught([self.space.largest, self.space.smallest, *random], self.teacher)
