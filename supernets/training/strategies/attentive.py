"""AttentiveNAS: the sandwich rule with random subnets sampled by cost and selected by loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from supernets.sharing.base import BatchLoss, Pass
from supernets.space import Architecture
from supernets.training.strategies.single_phase import SinglePhase, Teacher, passes

_SAMPLES = 2000
"""Random architectures whose costs form the prior."""
_BINS = 25
_SEED = 0
"""Seed of the prior, which must be the same for every worker and resumed training."""


@dataclass(frozen=True)
class AttentiveStrategy(SinglePhase):
    """Trains the largest, the smallest and `random_subnets` selected subnets every step (Wang et al. 2020, arXiv 2011.09011).

    For each, sample a cost from the costs of random architectures, then `candidates` architectures of about that cost, and
    train the one with the least (``best``, their BestUp-k) or the greatest (``worst``, WorstUp-k) loss on the step's
    batch. Departures: the prior's bins divide the space's own range of costs equally (theirs are 25 MFLOPs wide), and a
    bin's architectures are those sampled for the prior.

    Args:
        macs: Returns the multiply-accumulates of architectures, (n,).
        random_subnets: Number of subnets of a step that are selected, in addition to the largest and the smallest.
        candidates: Number of architectures, drawn with replacement, from which each subnet is selected; at least 1. Each costs
            a forward pass over the step's batch.
        pick: ``best`` trains the candidate of the least loss, ``worst`` that of the greatest.
        teacher: The source of distillation: ``largest``, ``frozen`` or ``none``; see `passes`.
    """

    name = "attentive"
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
        object.__setattr__(self, "_bins", [members for members in bins if members])
        object.__setattr__(self, "_prior", np.array([len(members) for members in self._bins]) / _SAMPLES)

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
        """The passes of a step: the largest subnet, the smallest one, and the selected ones.

        Args:
            phase: Index of the step's phase; it has no effect, since there is one phase.
            rng: Generator that draws the costs and the candidates.
            batch_loss: Returns the loss of a candidate on the step's batch, by which it is selected.
        """
        selected = [self._select(rng, batch_loss) for _ in range(self.random_subnets)]
        return passes([self.space.largest, self.space.smallest, *selected], self.teacher)

    def _select(self, rng: np.random.Generator, batch_loss: BatchLoss) -> Architecture:
        near = self._bins[int(rng.choice(len(self._bins), p=self._prior))]
        candidates = [near[i] for i in rng.integers(0, len(near), self.candidates)]
        choose = min if self.pick == "best" else max
        selected: Architecture = choose(candidates, key=batch_loss)
        return selected
