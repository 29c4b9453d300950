"""What a search was told: figures and violations by network, and which networks are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.problem.objectives import Constraint, Evaluation, Objective, minimised, violations
from supernets.space import Architecture


class History:
    """Everything told, in the order told, and everything asked for.

    Args:
        constraints: on figures that every evaluation has.
    """

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        self._objectives, self._constraints = list(objectives), list(constraints)
        self._rows: dict[Architecture, tuple[NDArray[np.float64], float]] = {}
        self._worst = np.full(len(self._objectives), -np.inf)
        self.known: set[Architecture] = set()

    def __len__(self) -> int:
        """How many have figures."""
        return len(self._rows)

    def add(self, evaluations: Sequence[Evaluation]) -> list[Architecture]:
        """Takes figures; returns the networks that have some now, the others are only remembered as known.

        Those are the networks whose figures are all finite, and those that a staged evaluation left because they break a
        constraint: by how much is what there is to learn of them. What was not taken counts as the worst figure so far.
        """
        self.known.update(e.architecture for e in evaluations)
        values = minimised(evaluations, self._objectives)
        usable = []
        for evaluation, row in zip(evaluations, values, strict=True):
            broken = np.array([violations([evaluation], [c])[0] for c in self._constraints])
            if evaluation.screened_out and np.nansum(broken) > 0:
                row, broken = np.where(np.isnan(row), self._worst, row), np.nan_to_num(broken)
            if np.isfinite(row).all() and np.isfinite(broken).all():
                self._worst = np.maximum(self._worst, row)
                self._rows[evaluation.architecture] = (row, float(broken.sum()))
                usable.append(evaluation.architecture)
        return usable

    @property
    def architectures(self) -> list[Architecture]:
        """The networks with figures, in the order told."""
        return list(self._rows)

    def __contains__(self, architecture: Architecture) -> bool:
        return architecture in self._rows

    def figures(self, architectures: Iterable[Architecture]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Minimised figures (n, m) of networks that have some, and their violations (n,): 0 where feasible."""
        found = [self._rows[a] for a in architectures]
        values = np.array([row for row, _ in found]).reshape(len(found), len(self._objectives))
        return values, np.array([violation for _, violation in found], dtype=np.float64)
