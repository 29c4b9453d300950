"""A search that begins with networks of one reduced choice, and then with what is solved from them for a sweep of limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nas.search.base import SearchAlgorithm, SearchProblem, WrappedAlgorithm, asked, replayed
from nas.search.budgets.additive_scores import additive_losses, reduced_networks
from nas.search.budgets.fitting import SolverFitting
from nas.search.budgets.solver import CostLimit
from nas.search.problem.objectives import Evaluation, Goal, minimised
from supernets.space import Architecture

N_SOLVED = 12
"""Limits that are solved for, at most, over all objectives that are costs."""
N_FIRST = 8
"""Limits that are solved for, at most, before any network is measured, where the losses of choices are known."""
_COUNTED = "macs"
"""The cost of these limits, which needs no measurement."""


class SolvedStart(WrappedAlgorithm):
    """Another algorithm that first asks for the largest network with one choice reduced each, and then for the solutions of
    limits from the smallest to the largest cost of each objective that is a cost; it learns from all of them.

    Where the problem has the losses of choices, the first networks are solutions of limits on multiply-accumulates in place of
    reduced ones, so that timed costs are fitted to networks of all sizes.

    Args:
        problem: The input of the inner algorithm; without a metric of the task or without costs among its objectives, nothing
            is solved.
    """

    def __init__(self, inner: SearchAlgorithm, problem: SearchProblem) -> None:
        self.inner, self._problem = inner, problem
        self._qualities = [o for o in problem.objectives if o.of_task]
        self._costs = [o for o in problem.objectives if o.name in problem.costs and o.goal is Goal.MINIMIZE]
        self._stages: list[Callable[[], list[Architecture]]] = [self._reduced_or_counted, self._solved_costs]
        if not (self._qualities and self._costs):
            self._stages = []
        self._queue = dict[Architecture, None]()
        self._known: set[Architecture] = set()
        self._evaluations = list[Evaluation]()

    def ask(self, n: int, *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        """The remaining reduced networks; then the solved ones; then those that the inner algorithm asks for.

        None while what the next ones are solved from is pending.
        """
        self._known.update(pending)
        if pending and self._stages and not self._queue:
            return []
        if first := self._first(n):
            replayed(self.inner, first, pending)
            self._forget(first)
            return first
        return asked(self.inner, n, pending)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Passes the evaluations on."""
        if self._stages:
            self._evaluations += evaluations
        self._forget([e.architecture for e in evaluations])
        self.inner.tell(evaluations)

    def correct(self, evaluations: Sequence[Evaluation]) -> None:
        """Passes the evaluations on."""
        self.inner.correct(evaluations)

    def replay(self, recorded: Sequence[Architecture], *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        """Returns the architectures that this version would have asked for."""
        self._known.update(pending)
        first = self._first(len(recorded))
        again = replayed(self.inner, recorded, pending)
        self._forget([*first, *recorded])
        return first or again

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        """Those of the inner algorithm."""
        return self.inner.fits()

    def _first(self, n: int) -> list[Architecture]:
        """The next reduced or solved networks, up to `n`; none when all were asked for."""
        while not self._queue and self._stages:
            networks = self._stages.pop(0)()
            self._queue = dict.fromkeys(network for network in networks if network not in self._known)
        return list(self._queue)[:n]

    def _forget(self, architectures: Sequence[Architecture]) -> None:
        self._known.update(architectures)
        for architecture in architectures:
            self._queue.pop(architecture, None)

    def _reduced_or_counted(self) -> list[Architecture]:
        problem = self._problem
        if not problem.losses:
            return reduced_networks(problem.space, problem.n_reduced)
        return self._solved([_COUNTED], min(N_FIRST, problem.n_reduced))

    def _solved_costs(self) -> list[Architecture]:
        return self._solved([cost.name for cost in self._costs], N_SOLVED)

    def _solved(self, costs: Sequence[str], n: int) -> list[Architecture]:
        """The solutions of sweeps of limits on costs, the costs in turns.

        Args:
            n: Number of limits in all.
        """
        problem, (quality, *_) = self._problem, self._qualities
        losses = minimised(self._evaluations, [quality])[:, 0]
        usable = [e for e, loss in zip(self._evaluations, losses.tolist(), strict=True) if loss == loss]
        networks = [e.architecture for e in usable]
        if problem.space.largest not in networks:  # its evaluation failed
            return []
        metrics = [*problem.objectives, *(c.metric for c in problem.constraints)]
        timed = {m.name: [e.value(m) for e in usable] for m in metrics if m.profile is not None}
        parts = {
            name: part for name, part in problem.costs.items() if name == _COUNTED or name in {m.name for m in metrics}
        }
        fitting = SolverFitting(problem.space, parts, problem.seed, problem.losses)
        losses = additive_losses(quality.metric, minimised(usable, [quality])[:, 0])
        solver = fitting.solver(networks, losses.tolist(), timed)
        limits = [
            CostLimit(c.metric.name, c.minimum, c.maximum) for c in problem.constraints if c.metric.name in solver.costs
        ]
        costs = [name for name in costs if name in solver.costs]
        sweeps = [solver.sweep(name, max(1, n // len(costs)), limits) for name in costs]
        longest = max(map(len, sweeps), default=0)
        return [sweep[i].network for i in range(longest) for sweep in sweeps if i < len(sweep)]
