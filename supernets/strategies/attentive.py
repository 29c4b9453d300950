"""AttentiveNAS: the sandwich's random subnets are drawn by cost and picked by their loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from supernets.base import Pass, Phase
from supernets.space import Architecture, SearchSpace
from supernets.strategies.terms import Teacher, taught

_SAMPLES = 2000
"""Random architectures whose costs are the prior."""
_BINS = 25
_SEED = 0
"""Of the prior: every worker and every resumed training must have the same one."""


@dataclass(frozen=True)
class AttentiveStrategy:
    """Largest, smallest, and subnets near the front a step (Wang et al. 2020, arXiv 2011.09011: BestUp-k and WorstUp-k).

    For each: a cost is drawn from the costs of random architectures, then `candidates` architectures of about that cost,
    and the one of least loss on the step's batch is trained (``best``: it pushes the front), or that of greatest loss
    (``worst``). Departures: the prior is cut into bins of equal width over the space's own costs (theirs of 25 MFLOPs),
    and an architecture of a bin is one of those that made the prior.

    Args:
        macs: multiply-accumulates of architectures, (n,).
    """

    space: SearchSpace
    macs: Callable[[Sequence[Architecture]], NDArray[Any]]
    random_subnets: int = 2
    candidates: int = 3
    pick: Literal["best", "worst"] = "best"
    teacher: Teacher = "largest"
    _bins: list[list[Architecture]] = field(init=False, repr=False, compare=False)
    _prior: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(_SEED)
        sampled = [self.space.sample(rng) for _ in range(_SAMPLES)]
        macs = self.macs(sampled)
        edges = np.linspace(macs.min(), macs.max(), _BINS + 1)
        which = np.clip(np.searchsorted(edges, macs, side="right") - 1, 0, _BINS - 1)
        bins = [[a for a, k in zip(sampled, which.tolist(), strict=True) if k == i] for i in range(_BINS)]
        object.__setattr__(self, "_bins", [found for found in bins if found])
        object.__setattr__(self, "_prior", np.array([len(found) for found in self._bins]) / _SAMPLES)

    def phases(self, epochs: int) -> Sequence[Phase]:
        return [Phase("attentive", epochs)]

    def plan(self, phase: int, rng: np.random.Generator, probe: Callable[[Architecture], float]) -> Sequence[Pass]:
        picked = [self._attended(rng, probe) for _ in range(self.random_subnets)]
        return taught([self.space.largest, self.space.smallest, *picked], self.teacher)

    def _attended(self, rng: np.random.Generator, probe: Callable[[Architecture], float]) -> Architecture:
        near = self._bins[int(rng.choice(len(self._bins), p=self._prior))]
        candidates = [near[i] for i in rng.integers(0, len(near), self.candidates)]
        losses = [probe(candidate) for candidate in candidates]
        picked = int(np.argmin(losses) if self.pick == "best" else np.argmax(losses))
        chosen: Architecture = candidates[picked]
        return chosen
