"""The best values and the front of a search, as lists of runs show them."""

from __future__ import annotations

from dataclasses import dataclass

from nas.analysis.formatting import format_value
from nas.analysis.fronts import best, front_of
from nas.analysis.network_values import Point
from nas.analysis.report import RunReport
from nas.problem.objectives import Objective


@dataclass(frozen=True, slots=True)
class BestValue:
    """The best value of a metric on a front, with its error, in the metric's own unit."""

    metric: Objective
    value: float
    error: float


@dataclass(frozen=True, slots=True)
class RunOverview:
    """What a search has found, in a few numbers.

    Attributes:
        quality, cost: the best of the objectives that stand for them; `cost` is None for a search with one objective. Both
            are None while there is no front.
        front: pairs of cost and quality, the cheapest first; empty for a search with one objective.
    """

    quality: BestValue | None = None
    cost: BestValue | None = None
    front: tuple[tuple[float, float], ...] = ()

    def best(self, metric: str) -> BestValue | None:
        """The best value of a metric, named without its profile; None where it is neither quality nor cost."""
        return next((b for b in (self.quality, self.cost) if b is not None and b.metric.metric == metric), None)

    def best_text(self, metric: str) -> str:
        """The best value of a metric, or, in place of the accuracy, that of another task with its name; else a dash."""
        found, other = self.best(metric), self.quality
        if found is not None:
            return format_value(found.metric, found.value)
        if metric == "accuracy" and other is not None and other.metric.of_task:
            return f"{other.metric.name} {format_value(other.metric, other.value)}"
        return "–"


def overview_of(report: RunReport) -> RunOverview:
    """The overview of a search."""
    if not report.front:
        return RunOverview()
    quality, cost = report.primary, report.cost
    if quality == cost:
        return RunOverview(_best(report.front, quality))
    shown = front_of(report.front, (cost, quality))  # of three and more objectives, those that lead in these two
    pairs = tuple((point.values[cost.name], point.values[quality.name]) for point in shown)
    return RunOverview(_best(report.front, quality), _best(report.front, cost), pairs)


def _best(front: tuple[Point, ...], metric: Objective) -> BestValue:
    point = best(front, metric)
    return BestValue(metric, point.values[metric.name], point.errors.get(metric.name, 0.0))
