"""The best values and the front of a search, as lists of runs show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nas.engine.formatting import format_value
from nas.results.analysis.fronts import best, front_of
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport
from nas.search.problem.objectives import Goal, Objective


@dataclass(frozen=True, slots=True)
class BestValue:
    """The best value of a metric on a front, with its error, in the metric's own unit."""

    metric: Objective
    value: float
    error: float

    @property
    def goodness(self) -> float:
        """The value, signed so that more is better."""
        return self.value if self.metric.goal is Goal.MAXIMIZE else -self.value


@dataclass(frozen=True, slots=True)
class RunOverview:
    """The results of a search in a few numbers.

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

    @property
    def score(self) -> BestValue | None:
        """The best value of the task's metric, such as the accuracy; None where it is no objective."""
        return self.quality if self.quality is not None and self.quality.metric.of_task else None

    def best_text(self, metric: str) -> str:
        """The best value of a metric, or, in place of the accuracy, that of another task with its name; else a dash."""
        best_value = self.score if metric == "accuracy" else self.best(metric)
        if best_value is None:
            return "–"
        text = format_value(best_value.metric, best_value.value)
        return text if best_value.metric.metric == metric else f"{best_value.metric.name} {text}"


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


def score_title(overviews: Iterable[RunOverview]) -> str:
    """The title of a column of runs' best scores: ``Best accuracy`` where all are accuracies, else ``Best score``."""
    names = {overview.score.metric.name for overview in overviews if overview.score is not None}
    return "Best accuracy" if names <= {"accuracy"} else "Best score"


def _best(front: tuple[Point, ...], metric: Objective) -> BestValue:
    point = best(front, metric)
    return BestValue(metric, point.values[metric.name], point.errors.get(metric.name, 0.0))
