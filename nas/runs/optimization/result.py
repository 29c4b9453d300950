"""The result of `nas.optimize`: the front, all evaluations, a table, plots and a display for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import nas.results
from nas.errors import NasError
from nas.plugins.parts import has, require
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport
from nas.results.analysis.search_steps import SearchStep
from nas.runs.optimization.notebook import html
from supernets.space import Architecture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from nas.results.plots.charts import Chart


@dataclass(frozen=True)
class OptimizationResult:
    """The evaluations and the front of a search.

    A `Point` has ``values`` and ``errors`` by metric, and ``described``, its options by choice.

    Attributes:
        report: The report of the search, from which everything is shown.
        stop: The reason why the search ended, in words.
    """

    report: RunReport = field(repr=False)
    stop: str

    @property
    def front(self) -> tuple[Point, ...]:
        """The non-dominated candidates that satisfy the constraints, the cheapest first; empty where none does."""
        return self.report.front

    @property
    def evaluations(self) -> Sequence[Point]:
        """All candidates with values, in the order evaluated; those that failed are in `failures`."""
        return self.report.evaluated

    @property
    def failures(self) -> Mapping[str, str]:
        """The reason by key of each candidate that failed."""
        return self.report.failed

    @property
    def hypervolume_history(self) -> tuple[tuple[int, float], ...]:
        """The number of evaluations and the hypervolume after each one with values, in the units of the objectives
        multiplied; the reference point, which the first candidates set, is ``report.reference``."""
        return self.report.hypervolume

    @property
    def steps(self) -> tuple[SearchStep, ...]:
        """The steps of the search, with how candidates were bred, and the models with all weights; empty without models."""
        return self.report.steps

    def to_dataframe(self) -> DataFrame:
        """One row per evaluation, failed ones included, by its number from 1: the options, the metrics, ``on_front`` and
        ``failure``.

        Metrics that have the name of a choice are called ``NAME (metric)``. Options that are not active, and metrics of
        candidates that failed, are missing values.

        Raises:
            NasError: pandas is not installed (code ``optimize.no-pandas``).
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise NasError(
                "to_dataframe() needs pandas; install it with `pip install pandas`, or read `evaluations`",
                code="optimize.no-pandas",
            ) from error
        report, choices = self.report, [choice.name for choice in self.report.space.choices]
        columns = {m.name: f"{m.name} (metric)" if m.name in choices else m.name for m in report.metrics}
        measured, front = {p.key: p for p in report.evaluated}, {p.key for p in report.front}
        rows: list[dict[str, Any]] = []
        for key in report.numbers:
            values = measured[key].values if key in measured else {}
            rows.append(
                {
                    **report.space.values(Architecture.parse(key)),
                    **{column: values.get(name) for name, column in columns.items()},
                    "on_front": key in front,
                    "failure": report.failed.get(key, ""),
                }
            )
        names = [*choices, *columns.values(), "on_front", "failure"]
        return pd.DataFrame(rows, columns=names, index=pd.Index(report.numbers.values(), name="evaluation"))

    def plot(self, kind: Literal["front", "convergence"] = "front") -> Figure:
        """A matplotlib figure: the front among all evaluations, or the growth of the hypervolume.

        A single objective without constraints on other metrics has no front to draw: its figure is always the convergence.

        Args:
            kind: ``front`` for the front among all evaluations, ``convergence`` for the hypervolume by number of evaluations.

        Raises:
            NasError: there is nothing to draw: no candidate has values, or there is no hypervolume above 0.
        """
        require("plots", "OptimizationResult.plot()")
        if kind not in ("front", "convergence"):
            raise NasError(f"plot({kind!r}): expected 'front' or 'convergence'", code="optimize.invalid")
        return nas.results.figure_of(self._chart(kind))

    def _chart(self, kind: Literal["front", "convergence"]) -> Chart:
        front = nas.results.front_chart(self.report) if kind == "front" else None
        chart = front or nas.results.convergence_chart(self.report)
        if chart is None:
            raise NasError("nothing to plot: the hypervolume is 0 so far; evaluate more", code="optimize.nothing-found")
        return chart

    def __repr__(self) -> str:
        return f"<OptimizationResult: {self.report.evaluations_text}, {len(self.front)} on the front>"

    def _repr_html_(self) -> str:
        """The front as a picture (where matplotlib is installed) and a table, for notebooks."""
        picture = None
        if has("plots"):
            with suppress(NasError):  # nothing to draw
                picture = nas.results.files_of("front", self._chart("front"))["front.svg"]
        return html(self.report, picture)
