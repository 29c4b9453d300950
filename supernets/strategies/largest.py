"""Ordinary training of the largest network: what every strategy is to be held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from supernets.base import Pass, Phase
from supernets.space import Architecture, SearchSpace
from supernets.strategies.terms import taught


@dataclass(frozen=True)
class LargestStrategy:
    """The largest network every step; the others are cut out of it as it is."""

    space: SearchSpace
    teacher: Literal["none", "frozen"] = "none"

    def phases(self, epochs: int) -> Sequence[Phase]:
        return [Phase("largest", epochs)]

    def plan(self, phase: int, rng: np.random.Generator, probe: Callable[[Architecture], float]) -> Sequence[Pass]:
        return taught([self.space.largest], self.teacher)
