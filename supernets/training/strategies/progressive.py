"""Progressive shrinking: trains the largest network, then makes one kind of choice after another elastic."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from supernets.errors import TrainingError
from supernets.sharing.base import BatchLoss, Family, Pass, Phase, Supernet
from supernets.sharing.sorting import importance, orders
from supernets.space.axes import axes_in
from supernets.training.strategies.single_phase import Teacher, passes

_LARGEST, _FIRST, _SECOND = 180, 25, 120
"""OFA's epochs of the largest network, of a kind's first phase and of its second (or only) phase, used as shares."""
_RATES = {"largest": 1.0, "kernel": 1.0, "first": 1 / 12, "second": 1 / 4}
"""Peak learning rates relative to the training's, from OFA's 3e-2, 2.5e-3 and 7.5e-3."""
_SUBNETS = {"kernel": 1, "depth": 2}
_MANY_SUBNETS = 4
_TOP = 2
"""Number of each choice's largest options in a kind's first phase."""


@dataclass(frozen=True)
class _Stage:
    """One phase of the schedule.

    Attributes:
        share: Share of the training's epochs, relative to the other phases'.
        floors: (n_choices,) the lowest level of each choice.
        subnets: number of random subnets per step; 0 trains only the largest.
        sorts: True to sort axes by importance before it.
    """

    name: str
    share: int
    rate: float
    floors: NDArray[np.int64]
    subnets: int
    sorts: bool = False


@dataclass(frozen=True)
class ProgressiveStrategy:
    """Once-for-all's schedule (Cai et al. 2020, arXiv 1908.09791) over the kinds of any family's choices.

    The largest network is trained first and then teaches. Kernels, depths and then the other kinds become elastic, in the
    space's order, each in two phases if it has more than two options: the two largest, then all. Before a phase with narrower
    layers, axes are sorted by importance, except the parts that narrower networks were already trained with. Resolutions are
    elastic in all phases after the first; if nothing else is elastic, they are a kind like any other.
    Departures: OFA's epochs become shares of the training's; kinds that OFA lacks (widths, heads) follow its rule for
    expansions; the teacher uses batch-norm statistics of the training images, not of the batch.

    Attributes:
        family: The supernet's family, whose space gives the kinds of choices and thereby the phases.
        teacher: ``largest`` is the largest network after its phase; ``frozen`` is the one given to the training; with
            ``none``, all subnets learn from the labels only.
    """

    family: Family
    teacher: Teacher = "largest"

    @cached_property
    def _stages(self) -> list[_Stage]:
        space = self.family.space
        floors = space.levels - 1
        stages = [_Stage("largest", _LARGEST, _RATES["largest"], floors, 0)]
        floors = floors.copy()
        floors[space.kinds.get("resolution", [])] = 0
        kinds = [kind for kind in space.kinds if space.levels[space.kinds[kind]].max() > 1]
        elastic = [kind for kind in kinds if kind != "resolution"] or kinds
        for kind in sorted(elastic, key=lambda kind: {"kernel": 0, "depth": 1}.get(kind, 2)):
            indices = space.kinds[kind]
            subnets, sorts = _SUBNETS.get(kind, _MANY_SUBNETS), kind not in _SUBNETS
            if kind != "kernel" and space.levels[indices].max() > _TOP:
                floors = floors.copy()
                floors[indices] = np.maximum(space.levels[indices] - _TOP, 0)
                stages.append(_Stage(f"{kind}, {_TOP} options", _FIRST, _RATES["first"], floors, subnets, sorts))
            floors = floors.copy()
            floors[indices] = 0
            rate = _RATES["kernel" if kind == "kernel" else "second"]
            stages.append(_Stage(kind, _SECOND, rate, floors, subnets, sorts))
        return stages

    def phases(self, epochs: int) -> Sequence[Phase]:
        """The phases of the schedule: each has one epoch, and the others are divided by OFA's shares.

        Args:
            epochs: Number of epochs of the whole training; at least one for each phase.

        Raises:
            TrainingError: there are fewer epochs than phases.
        """
        stages = self._stages
        if epochs < len(stages):
            problem = f"{epochs} epochs for the {len(stages)} phases {'; '.join(stage.name for stage in stages)}"
            advice = f"set training.epochs to at least {len(stages)}"
            raise TrainingError(f"progressive shrinking has {problem}; {advice}", code="training.too-few-epochs")
        shares = np.array([stage.share for stage in stages], dtype=np.float64)
        # One epoch per phase; the others by share, rounded by the largest remainders.
        exact = (epochs - len(stages)) * shares / shares.sum()
        counts = np.floor(exact).astype(int) + 1
        for i in np.argsort(-(exact % 1), kind="stable")[: epochs - counts.sum()]:
            counts[i] += 1
        phases = []
        for i, (stage, count) in enumerate(zip(stages, counts, strict=True)):
            before = partial(self._sort, stages[i - 1].floors) if stage.sorts else None
            teach = i == 0 and self.teacher == "largest"
            phases.append(Phase(stage.name, int(count), stage.rate, before=before, teach=teach))
        return phases

    def _sort(self, floors: NDArray[np.int64], supernet: Supernet) -> None:
        """Sorts every axis by importance, between the sizes of networks with these lowest levels."""
        importances, sizes = importance(supernet), self._sizes_above(floors)
        supernet.sort(orders(importances, {axis: sorted(sizes[axis]) for axis in importances}))

    def _sizes_above(self, floors: NDArray[np.int64]) -> dict[str, set[int]]:
        """The sizes of networks whose levels are at least `floors`, by axis."""
        space = self.family.space
        tops = space.levels - 1
        required = {
            choice.requires[0] for choice in space.choices if choice.requires is not None and choice.requires[1]
        }
        by_kind = []
        for indices in space.kinds.values():
            # Choices that others require (depths) stay at the top: fewer combinations.
            elastic = [i for i in indices if space.choices[i].name not in required]
            depth = max((int(tops[i] - floors[i]) for i in elastic), default=0)
            by_kind.append([(elastic, np.maximum(tops - t, floors)[elastic]) for t in range(depth + 1)])
        sizes_by_axis: dict[str, set[int]] = {axis: set() for axis in self.family.axes}
        for levels in itertools.product(*by_kind):
            genes = tops.copy()
            for elastic, chosen in levels:
                genes[elastic] = chosen
            architecture = space.canonical(genes)
            absent, sizes = (
                tuple(f"{name}." for name in self.family.dropped(architecture)),
                self.family.sizes(architecture),
            )
            for axis in axes_in(
                tuple(dims for name, dims in self.family.dims().items() if not name.startswith(absent))
            ):
                sizes_by_axis[axis].add(sizes[axis])
        return sizes_by_axis

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
        """The passes of a step: the largest network in the first phase, then random subnets of what is elastic by then.

        Args:
            phase: Index of the step's phase, which says how small each choice may be and how many subnets are sampled.
            rng: Generator that samples the subnets.
            batch_loss: It has no effect, since no subnet is selected by its loss.
        """
        space, stage = self.family.space, self._stages[phase]
        if stage.subnets == 0:
            return passes([space.largest], "frozen" if self.teacher == "frozen" else "none")
        sampled = [space.canonical(rng.integers(stage.floors, space.levels)) for _ in range(stage.subnets)]
        return passes(sampled, "none" if self.teacher == "none" else "frozen")
