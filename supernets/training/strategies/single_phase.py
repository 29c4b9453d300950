"""Strategies that sample uniformly: largest only, single path, sandwich rule and SortedNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from supernets.errors import TrainingError
from supernets.sharing.base import BatchLoss, Distillation, LabelLoss, Pass, Phase
from supernets.sharing.sorting import sort_by_importance
from supernets.space import Architecture, SearchSpace

_RATE_AFTER_LARGEST = 1 / 3
"""The peak of the sandwich's learning rate after the largest network was trained alone, relative to the training's."""
Teacher = Literal["none", "largest", "frozen"]


def passes(architectures: Sequence[Architecture], teacher: Teacher) -> list[Pass]:
    """One pass over the whole batch for each architecture.

    Args:
        architectures: The networks to train, in the order of their passes; at least one where the teacher is ``largest``.
        teacher: ``largest``: the first architecture is the largest, it learns from the labels, and the others from it only.
            ``frozen``: each learns from the labels and from the training's frozen teacher with equal weights (Cai et al.
            2020, arXiv 1908.09791). ``none``: each learns from the labels only.
    """
    match teacher:
        case "none":
            return [Pass(a, (LabelLoss(),)) for a in architectures]
        case "largest":
            first, *other_architectures = architectures
            return [Pass(first, (LabelLoss(),)), *(Pass(a, (Distillation(teacher=0),)) for a in other_architectures)]
        case "frozen":
            return [Pass(a, (LabelLoss(), Distillation(teacher=None))) for a in architectures]


@dataclass(frozen=True)
class SinglePhase:
    """A strategy whose training has one phase.

    Attributes:
        name: Name of the phase, for display.
        space: The search space of the supernet's family, from which subnets are sampled.
    """

    name: ClassVar[str]
    space: SearchSpace

    def phases(self, epochs: int) -> Sequence[Phase]:
        """One phase of all epochs.

        Args:
            epochs: Number of epochs of the whole training.
        """
        return [Phase(self.name, epochs)]


@dataclass(frozen=True)
class LargestStrategy(SinglePhase):
    """Trains the largest network only, the baseline of every strategy; the others are slices of it.

    Attributes:
        teacher: ``frozen`` adds distillation from the training's frozen teacher to the loss of the labels; ``none`` does not.
    """

    name = "largest"
    teacher: Literal["none", "frozen"] = "none"

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
        """The pass of a step: the largest network over the whole batch.

        Args:
            phase: Index of the step's phase; it has no effect, since there is one phase.
            rng: It has no effect, since nothing is sampled.
            batch_loss: It has no effect, since no subnet is selected by its loss.
        """
        return passes([self.space.largest], self.teacher)


@dataclass(frozen=True)
class SinglePathStrategy(SinglePhase):
    """Trains one random subnet per step on the labels (Guo et al. 2019, arXiv 1904.00420), optionally with a frozen teacher.

    Attributes:
        teacher: ``frozen`` adds distillation from the training's frozen teacher to the loss of the labels; ``none`` does not.
    """

    name = "single-path"
    teacher: Literal["none", "frozen"] = "none"

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
        """The pass of a step: one random subnet over the whole batch.

        Args:
            phase: Index of the step's phase; it has no effect, since there is one phase.
            rng: Generator that samples the subnet.
            batch_loss: It has no effect, since no subnet is selected by its loss.
        """
        return passes([self.space.sample(rng)], self.teacher)


@dataclass(frozen=True)
class SandwichStrategy(SinglePhase):
    """Trains the largest, the smallest and `random_subnets` random subnets every step (Yu and Huang 2019, arXiv 1903.05134).

    With the teacher ``largest``, the others learn only from the largest's outputs (in-place distillation, same paper).

    Attributes:
        random_subnets: Number of random subnets of a step, in addition to the largest and the smallest; 0 for none.
        teacher: The source of distillation: ``largest``, ``frozen`` or ``none``; see `passes`.
        largest_epochs: Number of epochs in which the largest network is trained alone. Axes are then sorted by importance, and
            the other epochs have a schedule of their own, with a lower peak of the learning rate (a departure, after
            Once-for-all's first phase; Cai et al. 2020, arXiv 1908.09791).
    """

    name = "sandwich"
    random_subnets: int = 2
    teacher: Teacher = "largest"
    largest_epochs: int = 0

    def phases(self, epochs: int) -> Sequence[Phase]:
        """One phase; with `largest_epochs`, one of the largest network and one of the sandwich.

        Args:
            epochs: Number of epochs of the whole training; more than `largest_epochs`, unless that is 0.

        Raises:
            TrainingError: no epochs are left after those of the largest network.
        """
        if not self.largest_epochs:
            return super().phases(epochs)
        if self.largest_epochs >= epochs:
            problem = f"largest_epochs is {self.largest_epochs}, and the training has {epochs} epochs"
            raise TrainingError(f"{problem}; lower largest_epochs, or raise epochs", code="training.too-few-epochs")
        after = Phase(self.name, epochs - self.largest_epochs, _RATE_AFTER_LARGEST, before=sort_by_importance)
        return [Phase("largest", self.largest_epochs), after]

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
        """The passes of a step: the largest, the smallest and random subnets; in the largest network's phase, it alone.

        Args:
            phase: Index of the step's phase: with `largest_epochs`, 0 is the phase of the largest network.
            rng: Generator that samples the random subnets.
            batch_loss: It has no effect, since no subnet is selected by its loss.
        """
        if self.largest_epochs and phase == 0:
            return passes([self.space.largest], "frozen" if self.teacher == "frozen" else "none")
        random = (self.space.sample(rng) for _ in range(self.random_subnets))
        return passes([self.space.largest, self.space.smallest, *random], self.teacher)


@dataclass(frozen=True)
class SortedStrategy(SinglePhase):
    """Trains one uniformly sampled subnet on each of `micro_batches` parts of a step's batch, in one optimiser step.

    Valipour et al. 2023 (SortedNet, arXiv 2309.00255). Their subnets are nested: use the space of a `NestedFamily`. A step
    costs as much as one of ordinary training. Losses are averaged over the parts. One micro-batch is the paper's ablation
    without gradient accumulation.

    Attributes:
        micro_batches: Number of equal parts of a step's batch, each with a subnet of its own; at least 1. An epoch's
            last, smaller batch is left out if it has fewer than two examples for each.
        teacher: ``frozen`` adds distillation from the training's frozen teacher to the loss of the labels; ``none`` does not.
    """

    name = "sorted"
    micro_batches: int = 4
    teacher: Literal["none", "frozen"] = "none"

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
        """The passes of a step: a random subnet over each part of the batch; the weights of their losses add up to one batch's.

        Args:
            phase: Index of the step's phase; it has no effect, since there is one phase.
            rng: Generator that samples the subnets.
            batch_loss: It has no effect, since no subnet is selected by its loss.
        """
        n = self.micro_batches
        sampled = passes([self.space.sample(rng) for _ in range(n)], self.teacher)
        return [
            replace(p, part=(i, n), terms=tuple(replace(term, weight=1 / n) for term in p.terms))
            for i, p in enumerate(sampled)
        ]
