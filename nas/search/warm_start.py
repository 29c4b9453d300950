"""What other runs measured before a search begins: figures to learn from, and networks that are worth asking for first."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nas.problem.objectives import Constraint, Evaluation, Objective, minimised, violations
from nas.problem.pareto import non_dominated
from nas.search.base import Foresight, SearchAlgorithm
from nas.search.guided.acquisition import survivors
from supernets.space import Architecture

FIRST = 8
"""Networks asked for first, at most: with as many again, guided search needed more (see `guided.WARM_INITIAL`)."""


class Expected(Protocol):
    """What gives minimised figures of architectures, (..., n, m), `z` deviations from the expected ones."""

    def figures(self, architectures: Sequence[Architecture], z: NDArray[np.float64] | float) -> NDArray[np.float64]: ...


class Earlier:
    """Figures of earlier runs, for algorithms that learn from them; of each network in each objective the last one given.

    Attributes:
        promising: networks that they show to be good; see the function of this name.
    """

    def __init__(
        self, evaluations: Sequence[Evaluation], objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()
    ) -> None:
        self.promising = promising(evaluations, objectives, constraints, n=len(evaluations))
        self._rows: dict[Architecture, NDArray[np.float64]] = {}
        for evaluation, row in zip(evaluations, minimised(evaluations, objectives), strict=True):
            before = self._rows.get(evaluation.architecture, row)
            self._rows[evaluation.architecture] = np.where(np.isfinite(row), row, before)

    def column(
        self, objective: int, without: Collection[Architecture]
    ) -> tuple[list[Architecture], NDArray[np.float64]]:
        """Networks outside `without` that have a figure in an objective, and the minimised figures, (n,)."""
        found = {a: float(row[objective]) for a, row in self._rows.items() if a not in without}
        kept = {a: figure for a, figure in found.items() if math.isfinite(figure)}
        return list(kept), np.array(list(kept.values()), dtype=np.float64)

    def known_to(self, outlook: Expected) -> Expected:
        """An outlook that gives the known figures in place of the expected ones: measuring would find them again."""
        return _Knowing(outlook, self._rows) if self._rows else outlook


@dataclass(frozen=True, slots=True)
class _Knowing:
    outlook: Expected
    rows: Mapping[Architecture, NDArray[np.float64]]

    def figures(self, architectures: Sequence[Architecture], z: NDArray[np.float64] | float) -> NDArray[np.float64]:
        expected = self.outlook.figures(architectures, z)
        unknown = np.full(expected.shape[-1], np.nan)
        known = np.array([self.rows.get(a, unknown) for a in architectures]).reshape(expected.shape[-2:])
        return np.where(np.isfinite(known), known, expected)


def promising(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint] = (),
    *,
    n: int = FIRST,
) -> list[Architecture]:
    """Up to `n` networks that earlier runs found best, spread over their fronts.

    Evaluations with the same figures are compared with each other, in the objectives. Where one is missing, the same metric
    on another profile stands in for it: what is fast on one machine tends to be so on another. Networks that are known
    to break a constraint are left out.
    """
    broken = np.zeros(len(evaluations), dtype=bool)
    for constraint in constraints:
        broken |= violations(evaluations, [constraint]) > 0  # NaN, where the figure is not known, is no violation
    groups: dict[tuple[str, ...], list[Evaluation]] = {}
    for evaluation, breaks in zip(evaluations, broken.tolist(), strict=True):
        if not (breaks or evaluation.failed):
            groups.setdefault(tuple(sorted(evaluation.measurements)), []).append(evaluation)
    found: list[list[Architecture]] = []
    for names, group in groups.items():
        stood_in = [s for o in objectives if (s := _stand_in(o, names)) is not None]
        if stood_in:
            values = minimised(group, stood_in)
            front = np.flatnonzero(non_dominated(values))
            found.append([group[front[i]].architecture for i in survivors(values[front], n)])
    turns = [front[i] for i in range(n) for front in found if i < len(front)]
    return list(dict.fromkeys(turns))[:n]


def _stand_in(objective: Objective, names: Sequence[str]) -> Objective | None:
    """The objective, or the one of the same metric among some figures' names."""
    if objective.name in names:
        return objective
    others = [name for name in names if name.partition("@")[0] == objective.metric]
    return Objective(others[0], objective.unit, objective.goal) if others else None


class EarlierFirst:
    """Another algorithm, which asks for what earlier runs found promising before anything of its own.

    Args:
        inner: knows nothing of the earlier runs, or learns from their figures by itself.
        first: networks to ask for first.
    """

    def __init__(self, inner: SearchAlgorithm, first: Sequence[Architecture], *, n_objectives: int) -> None:
        self._inner, self._n_objectives = inner, n_objectives
        self._left = dict.fromkeys(first)

    def ask(self, n: int) -> list[Architecture]:
        first = list(self._left)[:n]
        if first:
            self._forget(first)
            self._inner.replay(first)  # it knows them now, and asks for others
        return first + self._inner.ask(n - len(first)) if len(first) < n else first

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self._forget([e.architecture for e in evaluations])
        self._inner.tell(evaluations)

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        return self._inner.fits()

    def hopes(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Those of the inner algorithm, if it has any."""
        if isinstance(self._inner, Foresight):
            return self._inner.hopes(architectures)
        return np.full((len(architectures), self._n_objectives), -np.inf)

    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        first = list(self._left)[: len(asked)]
        again = list(first)
        if first:
            self._forget(first)
            self._inner.replay(asked[: len(first)])
        if rest := asked[len(first) :]:
            again += self._inner.replay(rest)
        self._forget(asked)
        return again

    def _forget(self, architectures: Sequence[Architecture]) -> None:
        for architecture in architectures:
            self._left.pop(architecture, None)
