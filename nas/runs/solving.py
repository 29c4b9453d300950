"""Networks that nobody has measured, solved for limits, measured on the run's profiles, and recorded in the run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.engine.formatting import format_value
from nas.engine.store.base import RunStatus, RunStore
from nas.engine.store.opening import open_store
from nas.errors import EvaluationError, Remedy, RunStateError, SelectionError, quoted
from nas.jobs.build.search_objects import cost_parts
from nas.jobs.run.execution import RunExecution, SearchExecution
from nas.jobs.run.preparation import preparing_again
from nas.jobs.run.run_options import RunOptions
from nas.results.analysis.fronts import best, comparable
from nas.results.analysis.network_selection import Limit, names_network, parse_terms
from nas.results.analysis.network_values import Point, values_of
from nas.results.analysis.report import RunReport, build_report
from nas.results.export.provenance import SOLVED
from nas.search.budgets.additive_scores import additive_losses, value_of_loss
from nas.search.budgets.fitting import SolverFitting
from nas.search.budgets.linear_costs import MIN_MEASURED
from nas.search.budgets.solver import BudgetSolver, CostLimit, Solution
from nas.search.problem.objectives import Fidelity, Objective
from supernets.space import Architecture

if TYPE_CHECKING:
    from nas.runs.run import Run

MAX_TRIES = 4
"""Networks that are measured for one set of limits, at most."""


def solve(run: Run, select: str, options: RunOptions) -> dict[str, Any]:
    """Measures the network that is best within limits by what its run has measured, and records it in the run.

    Losses of choices are additive (see `nas.search.budgets.additive_scores`), costs are computed or fitted to the measured
    networks, and the best network by both is found by integer linear programming. Where its measured costs break a limit, the
    measurement corrects the costs, the limit is tightened by the excess, and the next network is measured.

    Args:
        run: A search that is finished.
        select: Limits on costs, e.g. ``latency_ms<=1.0, parameters<=2e6``.
        options: Options of the measurement.

    Returns:
        ``select``; ``key``, the best measured network within the limits; ``solved``, the key of the solver's network; of that,
        by name of the costs and of the quality, ``predicted``, ``measured`` and the ``errors`` of these; ``n_measured``, the
        number of networks that were measured for it; and ``gap``, see `Solution`.

    Raises:
        SelectionError: the limits are malformed or on a quality, or no network keeps them.
        RunStateError: the run is a training, or not finished.
        EvaluationError: a network cannot be measured, or none that was measured keeps the limits.
    """
    if names_network(select):
        problem = (
            f"select {quoted(select)} names a measured network; expected limits to solve for, e.g. latency_ms<=1.0"
        )
        raise SelectionError(problem, code="selection.malformed", parameter="select")
    with closing(open_store(run.folder, driver=True, on_wait=options.observer.waiting)) as store:
        facts = store.facts()
        if facts is not None and facts.search is None:
            problem = f"run {run.id!r} is a training, none of whose networks is measured; first search it with"
            raise RunStateError(f"{problem}   supernet: {{from: {run.id}}}", code="run.not-a-search")
        if facts is None or store.status() is not RunStatus.FINISHED:
            problem = f"run {run.id!r} is not finished; networks are solved for from all measurements of a search"
            raise RunStateError(problem, code="run.not-finished", remedy=Remedy("resume", run.id))
        with (
            preparing_again(run.folder, store, facts, options) as built_job,
            RunExecution(run.folder, store, built_job, options).measuring() as execution,
        ):
            return _Solving(run.id, select, execution, store).solved()


@dataclass(frozen=True)
class _Proposal:
    """A network of the solver with its predicted quality, and its measured values."""

    solution: Solution
    quality: float
    point: Point


@dataclass(eq=False)
class _Solving:
    """The way to a measured network within limits."""

    run: str
    select: str
    execution: SearchExecution
    store: RunStore

    def solved(self) -> dict[str, Any]:
        """See `solve`."""
        bounds, proposals, n_before = self._bounds, list[_Proposal](), len(self._report().candidates)
        while len(proposals) < MAX_TRIES:
            report = self._report()
            measured = {point.architecture: point for point in report.candidates}
            solver, largest_loss = self._solver(report)
            breaking = [network for network, point in measured.items() if not self._keeps(point)]
            solution = solver.solve(list(bounds.values()), excluded=breaking)
            if solution is None and not proposals:
                raise self._nothing_keeps(solver, report)
            if solution is None:
                break
            point = measured.get(solution.network) or self._measured(solution.network)
            quality = value_of_loss(report.primary.metric, largest_loss + solution.score)
            proposals.append(_Proposal(solution, report.primary.sign * quality, point))
            if self._keeps(point):
                break
            bounds = {name: self._tightened(bound, point) for name, bound in bounds.items()}
        report = self._report()
        within = [i for i, point in enumerate(report.candidates) if self._keeps(point)]
        near = [proposal.point for proposal in proposals if self._keeps(proposal.point, noise_floors=1)]
        if not within and not near:
            raise self._missed(proposals)
        points = comparable(report.candidates.take(within), report.evaluated, report.objectives) or near
        chosen = best(points, report.primary)
        return self._recorded(report, chosen, proposals, n_measured=len(report.candidates) - n_before)

    @cached_property
    def _fitting(self) -> SolverFitting:
        built_job = self.execution.run.built_job
        parts = cost_parts(built_job, self.execution.supernet)
        return SolverFitting(built_job.space, parts, built_job.job.config.seed, self.execution.option_losses())

    def _report(self) -> RunReport:
        return build_report(self.store, run=self.run)

    @cached_property
    def _limits(self) -> tuple[Limit, ...]:
        report, names = self._report(), list(self._fitting.parts)
        costs = [Objective.parse(name, report.profiles) for name in names]
        limits = parse_terms(self.select, report.profiles, list(dict.fromkeys([*report.metrics, *costs])))
        if stray := [limit.objective.name for limit in limits if limit.objective.name not in names]:
            text = f"select {quoted(self.select)}: {stray[0]} is no cost; networks are solved for limits on"
            raise SelectionError(f"{text} {', '.join(names)}", code="selection.unknown-metric", parameter="select")
        return limits

    @cached_property
    def _bounds(self) -> dict[str, CostLimit]:
        """The limits by cost; of several on one, the strictest."""
        bounds: dict[str, CostLimit] = {}
        for limit in self._limits:
            name, below = limit.objective.name, limit.sign in ("<", "<=")
            bound = bounds.get(name, CostLimit(name))
            strictest = [b for b in (bound.maximum if below else bound.minimum, limit.bound) if b is not None]
            if below:
                bounds[name] = replace(bound, maximum=min(strictest))
            else:
                bounds[name] = replace(bound, minimum=max(strictest))
        return bounds

    def _solver(self, report: RunReport) -> tuple[BudgetSolver, float]:
        """The solver by all measured networks, and the loss of the largest one."""
        points, largest = report.evaluated, self._fitting.space.largest
        if largest.key not in points.places:
            problem = f"run {self.run!r} has not measured its largest network, from which losses are differences"
            raise EvaluationError(
                f"{problem}; retry what failed", remedy=Remedy("resume", self.run, {"retry_failed": True})
            )
        values = report.primary.sign * values_of(points, report.primary.name)
        losses = additive_losses(report.primary.metric, values)
        timed = {metric.name: _final_values(report, metric.name) for metric in report.metrics if metric.profile}
        networks = [point.architecture for point in points]
        solver = self._fitting.solver(networks, losses.tolist(), timed)
        if missing := [name for name in self._bounds if name not in solver.costs]:
            n = int(np.isfinite(timed.get(missing[0], [])).sum())
            problem = f"run {self.run!r} has {n} measurements of {missing[0]}; expected at least {MIN_MEASURED}"
            more = {"evaluations": f"+{MIN_MEASURED - n}"}
            raise EvaluationError(f"{problem} to solve for limits on it", remedy=Remedy("resume", self.run, more))
        return solver, float(losses[points.places[largest.key]])

    def _value(self, point: Point, name: str) -> float:
        """A measured cost of a network, or a computed one."""
        if name in point.values:
            return point.values[name]
        return float(self._fitting.parts[name]([point.architecture]).sum())

    def _keeps(self, point: Point, noise_floors: float = 0) -> bool:
        """Returns True if a network keeps the limits, or is beyond them by at most this number of noise floors."""
        for limit in self._limits:
            name = limit.objective.name
            shift = noise_floors * point.errors.get(name, 0.0) * (-1 if limit.sign in ("<", "<=") else 1)
            if not limit.allows(self._value(point, name) + shift):
                return False
        return True

    def _tightened(self, bound: CostLimit, point: Point) -> CostLimit:
        """A limit, tightened by the relative excess of a network's measured value over that of the run."""
        value, limit = self._value(point, bound.metric), self._bounds[bound.metric]
        high, low = limit.maximum, limit.minimum
        if high is not None and bound.maximum is not None and value > high:
            return replace(bound, maximum=bound.maximum * high / value)
        if low is not None and bound.minimum is not None and 0 < value < low:
            return replace(bound, minimum=bound.minimum * low / value)
        return bound

    def _measured(self, network: Architecture) -> Point:
        """A network that the run has not measured, after its measurement."""
        self.execution.run.observer.note(f"measuring network {network.key}, solved for {self.select.strip()}")
        self.execution.measure([network])
        report = self._report()
        if (place := report.candidates.places.get(network.key)) is not None:
            return report.candidates[place]
        reason = report.failed.get(network.key, "its measurement failed")
        raise EvaluationError(f"network {network.key}, solved for {quoted(self.select)}, has no values: {reason}")

    def _recorded(
        self, report: RunReport, chosen: Point, proposals: Sequence[_Proposal], *, n_measured: int
    ) -> dict[str, Any]:
        """The result, which the run keeps as an event."""
        proposal = next((p for p in proposals if p.point.key == chosen.key), proposals[-1])
        names, quality = list(self._bounds), report.primary.name
        facts = {
            "select": self.select,
            "key": chosen.key,
            "solved": proposal.point.key,
            "predicted": {**{name: proposal.solution.costs[name] for name in names}, quality: proposal.quality},
            "measured": {
                **{name: self._value(proposal.point, name) for name in names},
                quality: proposal.point.values[quality],
            },
            "errors": {name: proposal.point.errors.get(name, 0.0) for name in [*names, quality]},
            "n_measured": n_measured,
            "gap": proposal.solution.gap,
        }
        self.store.record_event(SOLVED, facts)
        return facts

    def _nothing_keeps(self, solver: BudgetSolver, report: RunReport) -> SelectionError:
        """The error where no network keeps the limits, with what the smallest and the largest network have."""
        ends = solver.space.smallest, solver.space.largest
        texts = []
        for limit in self._limits:
            metric = limit.objective
            smallest, largest = (format_value(metric, value) for value in solver.costs[metric.name](ends).tolist())
            texts.append(f"the smallest has {metric.name} {smallest}, the largest {largest}")
        text = f"no network of run {self.run!r} keeps {quoted(self.select.strip())}: {'; '.join(dict.fromkeys(texts))}"
        return SelectionError(text, code="selection.nothing-satisfies")

    def _missed(self, proposals: Sequence[_Proposal]) -> EvaluationError:
        """The error where all networks that were solved for the limits break them when they are measured."""
        rows = []
        for proposal in proposals:
            values = [
                f"{name} {proposal.solution.costs[name]:.4g} predicted, {self._value(proposal.point, name):.4g} measured"
                for name in self._bounds
            ]
            rows.append(f"{proposal.point.key} ({', '.join(values)})")
        text = f"{len(rows)} networks of run {self.run!r} were solved for {quoted(self.select.strip())} and break it"
        return EvaluationError(
            f"{text}: {'; '.join(rows)}; the run keeps their measurements: repeat it, or choose a looser limit",
            code="selection.nothing-satisfies",
        )


def _final_values(report: RunReport, name: str) -> list[float]:
    """A timed metric of the evaluated networks: by the longer protocol, and where it was not used, by the search's times the
    median ratio of both, since they differ by more than their errors."""
    searched, ratios = values_of(report.evaluated, name), dict[int, float]()
    for point in report.candidates:
        if point.fidelity is Fidelity.FINAL:
            place = report.evaluated.places[point.key]
            ratios[place] = point.values[name] / searched[place]
    ratio = float(np.median(list(ratios.values()))) if ratios else 1.0
    return [value * ratios.get(place, ratio) for place, value in enumerate(searched.tolist())]
