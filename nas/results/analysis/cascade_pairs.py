"""The pairs of a run's front that can be a cascade, or the reason why there is none; without torch."""

from __future__ import annotations

from itertools import combinations

from nas.engine.store.base import RunStatus
from nas.errors import Remedy, RunStateError, SelectionError
from nas.results.analysis.report import RunReport
from nas.search.problem.tasks import CLASSIFICATION


def cascade_pairs(report: RunReport) -> list[tuple[int, int]]:
    """Pairs (small, large) of members of a front by their numbers: of one runtime, the large one slower.

    Raises:
        RunStateError: the run is not finished.
        SelectionError: its task is none of classes, it measured no latency, or no two members can be paired.
    """
    run = f"run {report.run!r}"
    if report.status is not RunStatus.FINISHED:
        problem = f"{run} is {report.status}; its front may change: resume the run"
        raise RunStateError(problem, remedy=Remedy("resume", report.run))
    if report.task.name != CLASSIFICATION.name:
        problem = f"{run} has the task {report.task.name}; a cascade needs the confidences of a classification"
        raise SelectionError(problem, code="cascade.task-unavailable")
    if (cost := report.cost).metric != "latency_ms":
        objective_names = ", ".join(o.name for o in report.objectives)
        problem = f"{run} has the objectives {objective_names}; a cascade needs a latency: search with latency_ms"
        raise SelectionError(problem, code="cascade.no-latency")
    if len(report.front) < 2:
        problem = (
            f"the front of {run} has {len(report.front)} member(s); a cascade needs 2: search with more evaluations"
        )
        raise SelectionError(problem, code="cascade.too-few-networks")
    numbered = combinations(enumerate(report.front), 2)  # the fastest first
    pairs = [
        (i, j)
        for (i, small), (j, large) in numbered
        if small.runtime == large.runtime and small.values[cost.name] < large.values[cost.name]
    ]
    if not pairs:
        problem = f"the front of {run} has no two networks of one runtime and different latency, which a cascade needs"
        raise SelectionError(f"{problem}; search with one runtime", code="cascade.too-few-networks")
    return pairs
