"""Warm start: evaluations of other runs to learn from, and the architectures among them that are worth asking for first."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from nas.search.base import SearchAlgorithm, WrappedAlgorithm, asked, replayed
from nas.search.problem.constraints import violations
from nas.search.problem.objectives import Constraint, Evaluation, Objective, minimised
from nas.search.problem.pareto import Array, non_dominated
from nas.search.ranking import survivors
from supernets.space import Architecture

FIRST = 8
"""Architectures asked for first, at most: with as many again, guided search needed more (see `guided.WARM_INITIAL`)."""


class PriorObservations:
    """Values from other runs, for algorithms that learn from them; the last one of each architecture and objective."""

    def __init__(
        self, evaluations: Sequence[Evaluation], objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()
    ) -> None:
        self.promising = promising(evaluations, objectives, constraints, n=len(evaluations))
        self._rows: dict[Architecture, Array] = {}
        for evaluation, row in zip(evaluations, minimised(evaluations, objectives), strict=True):
            before = self._rows.get(evaluation.architecture, row)
            self._rows[evaluation.architecture] = np.where(np.isfinite(row), row, before)

    def column(self, objective: int, without: Collection[Architecture]) -> tuple[list[Architecture], Array]:
        """Architectures outside `without` that have a value in an objective, and the minimised values, (n,)."""
        values = {a: float(row[objective]) for a, row in self._rows.items() if a not in without}
        value_by_architecture = {a: value for a, value in values.items() if math.isfinite(value)}
        return list(value_by_architecture), np.array(list(value_by_architecture.values()), dtype=np.float64)

    def replaced_in(self, predicted: Array, architectures: Sequence[Architecture]) -> Array:
        """Predictions of architectures, (..., n, m), with the observed values in place: measuring would find them again."""
        if not self._rows:
            return predicted
        unknown = np.full(predicted.shape[-1], np.nan)
        observed = np.array([self._rows.get(a, unknown) for a in architectures]).reshape(predicted.shape[-2:])
        return np.where(np.isfinite(observed), observed, predicted)


def promising(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint] = (),
    *,
    n: int = FIRST,
) -> list[Architecture]:
    """Up to `n` architectures that other runs found best, spread over their fronts.

    Evaluations with values of the same metrics are compared with each other, in the objectives. If one is missing, the
    same metric on another profile replaces it: what is fast on one machine tends to be so on another. Architectures
    known to violate a constraint are left out.
    """
    broken = np.zeros(len(evaluations), dtype=bool)
    for constraint in constraints:
        broken |= violations(evaluations, [constraint]) > 0  # NaN, where the value is unknown, is no violation
    groups: dict[tuple[str, ...], list[Evaluation]] = {}
    for evaluation, breaks in zip(evaluations, broken.tolist(), strict=True):
        if not (breaks or evaluation.failed):
            groups.setdefault(tuple(sorted(evaluation.measurements)), []).append(evaluation)
    fronts: list[list[Architecture]] = []
    for names, group in groups.items():
        available = [s for o in objectives if (s := _available(o, names)) is not None]
        if available:
            values = minimised(group, available)
            front = np.flatnonzero(non_dominated(values))
            fronts.append([group[front[i]].architecture for i in survivors(values[front], n)])
    turns = [front[i] for i in range(n) for front in fronts if i < len(front)]
    return list(dict.fromkeys(turns))[:n]


def _available(objective: Objective, names: Sequence[str]) -> Objective | None:
    """The objective, or the first of the same metric, among these names."""
    if objective.name in names:
        return objective
    same_metric = [name for name in names if name.partition("@")[0] == objective.metric]
    return Objective(same_metric[0], objective.unit, objective.goal) if same_metric else None


class WarmStarted(WrappedAlgorithm):
    """Another algorithm that first asks for what other runs found promising; it may learn from their values by itself."""

    def __init__(self, inner: SearchAlgorithm, first: Sequence[Architecture]) -> None:
        self.inner = inner
        self._remaining = dict.fromkeys(first)

    def ask(self, n: int, *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        """The remaining first architectures, then those that the inner algorithm asks for."""
        self._forget(pending)
        if first := list(self._remaining)[:n]:
            self._forget(first)
            replayed(self.inner, first, pending)  # it knows them now, and asks for others
        return first + asked(self.inner, n - len(first), pending) if len(first) < n else first

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Passes the evaluations on."""
        self._forget([e.architecture for e in evaluations])
        self.inner.tell(evaluations)

    def correct(self, evaluations: Sequence[Evaluation]) -> None:
        """Passes the evaluations on."""
        self.inner.correct(evaluations)

    def replay(self, recorded: Sequence[Architecture], *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        """Returns the architectures that this version would have asked for."""
        self._forget(pending)
        first = list(self._remaining)[: len(recorded)]
        again = list(first)
        if first:
            replayed(self.inner, recorded[: len(first)], pending)
        if remaining := recorded[len(first) :]:
            again += replayed(self.inner, remaining, pending)
        self._forget([*first, *recorded])
        return again

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        """Those of the inner algorithm."""
        return self.inner.fits()

    def _forget(self, architectures: Sequence[Architecture]) -> None:
        for architecture in architectures:
            self._remaining.pop(architecture, None)
