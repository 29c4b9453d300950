"""Progressive shrinking: the largest network first, then one kind of dimension after another is made elastic."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from supernets.axes import axes_in
from supernets.base import Family, Pass, Phase, Supernet
from supernets.errors import TrainingError
from supernets.sorting import importance, orders
from supernets.space import Architecture
from supernets.strategies.terms import Teacher, taught

_LARGEST, _FIRST, _SECOND = 180, 25, 120
"""Epochs of the largest network, of a kind's first phase and of its second (or only) one: OFA's, taken as shares."""
_RATES = {"largest": 1.0, "kernel": 1.0, "first": 1 / 12, "second": 1 / 4}
"""Peak learning rates, relative to the training's: OFA's of 3e-2, 2.5e-3 and 7.5e-3."""
_SUBNETS = {"kernel": 1, "depth": 2}
_MANY_SUBNETS = 4
_TOP = 2
"""Options of each choice that a kind's first phase trains: its two largest."""


@dataclass(frozen=True)
class _Stage:
    """One phase's share of the epochs, and what it samples.

    Attributes:
        floors: (n_choices,) the lowest level of each choice.
        subnets: random ones a step; 0 trains the largest alone.
        sorts: whether units are sorted by importance before it.
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

    The largest network is trained, and then teaches. Kernels, depths and then the others become elastic, in the space's
    order, each in two phases where it has more than two options: its two largest, then all. Before a phase that makes layers
    narrower, units are sorted by importance, but for those that narrower networks were already trained with. Resolutions are
    elastic from the beginning, but for the largest network's phase; where nothing else is, they are a kind as any other.
    Departures: epochs are shares of what the training has; kinds that OFA lacks (widths, heads) follow its rule for
    expansions; the teacher is evaluated with the statistics of the training images, not with those of the batch.

    Attributes:
        teacher: ``largest`` is the largest network as its phase leaves it; ``frozen`` one that the training is given.
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
        stages = self._stages
        if epochs < len(stages):
            raise TrainingError(
                f"progressive shrinking of this space has {len(stages)} phases ({'; '.join(s.name for s in stages)}), and "
                f"the training {epochs} epochs; give training.epochs at least {len(stages)}"
            )
        shares = np.array([stage.share for stage in stages], dtype=np.float64)
        # Every phase has an epoch; the others go by share, the largest rests first.
        exact = (epochs - len(stages)) * shares / shares.sum()
        counts = np.floor(exact).astype(int) + 1
        for i in np.argsort(-(exact % 1), kind="stable")[: epochs - counts.sum()]:
            counts[i] += 1
        return [
            Phase(
                stage.name,
                int(count),
                stage.rate,
                before=partial(self._sort, stages[i - 1].floors) if stage.sorts else None,
                teach=i == 0 and self.teacher == "largest",
            )
            for i, (stage, count) in enumerate(zip(stages, counts, strict=True))
        ]

    def _sort(self, floors: NDArray[np.int64], supernet: Supernet) -> None:
        """Sorts the units of every axis, between the sizes that networks of these lowest levels have."""
        found = importance(supernet)
        trained = self._trained_sizes(floors)
        supernet.sort(orders(found, {axis: sorted(trained[axis]) for axis in found}))

    def _trained_sizes(self, floors: NDArray[np.int64]) -> dict[str, set[int]]:
        """By axis, the sizes of networks whose levels are no lower."""
        space = self.family.space
        tops = space.levels - 1
        required = {choice.requires[0] for choice in space.choices if choice.requires is not None}
        by_kind = []
        for indices in space.kinds.values():
            # What layers there are stays, where a choice of its own tells: the fewer combinations.
            elastic = [i for i in indices if space.choices[i].name not in required]
            depth = max((int(tops[i] - floors[i]) for i in elastic), default=0)
            by_kind.append(
                [(elastic, [max(int(tops[i]) - t, int(floors[i])) for i in elastic]) for t in range(depth + 1)]
            )
        found: dict[str, set[int]] = {axis: set() for axis in self.family.axes}
        for levels in itertools.product(*by_kind):
            genes = tops.copy()
            for elastic, chosen in levels:
                genes[elastic] = chosen
            architecture = space.canonical(genes)
            there = self._axes_there(self.family.dropped(architecture))
            for axis, size in self.family.sizes(architecture).items():
                if axis in there:  # the sizes of layers that a network lacks are nobody's
                    found[axis].add(size)
        return found

    def _axes_there(self, dropped: frozenset[str]) -> frozenset[str]:
        """The axes that some tensor has outside of these modules."""
        absent = tuple(f"{name}." for name in dropped)
        kept = (dims for name, dims in self.family.dims().items() if not name.startswith(absent))
        return frozenset().union(*(axes_in(dims) for dims in kept))

    def plan(self, phase: int, rng: np.random.Generator, probe: Callable[[Architecture], float]) -> Sequence[Pass]:
        space, stage = self.family.space, self._stages[phase]
        if stage.subnets == 0:
            return taught([space.largest], "frozen" if self.teacher == "frozen" else "none")
        sampled = [space.canonical(rng.integers(stage.floors, space.levels)) for _ in range(stage.subnets)]
        return taught(sampled, "none" if self.teacher == "none" else "frozen")
