"""The chart of `nas bench search --plot`: shares of a table's exact hypervolume over evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.results.plots.charts import Axis, Chart, Panel, Series, distinct_staircase, log_ticks

if TYPE_CHECKING:
    from nas.runs.bench.results_file import Row

_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
_NEAREST = 0.0008
"""Shares are drawn as their difference to 1, on a logarithmic axis that ends here."""
_LONG = 600
"""Evaluations above which their axis is logarithmic, too: algorithms differ in the first hundred."""
_SETTLED = 8
"""The number of first shares of a run that may lie below the axis, so that the later ones have space."""


@dataclass(frozen=True)
class Curve:
    """Quartiles over seeds of the share of the exact hypervolume after each number of evaluations, (n,) each."""

    algorithm: str
    evaluations: NDArray[np.int64]
    low: NDArray[np.float64]
    median: NDArray[np.float64]
    high: NDArray[np.float64]


def curves(rows: Sequence[Row]) -> list[Curve]:
    """One curve per algorithm, in the rows' order; a run that has ended keeps its last share."""
    algorithm_curves = []
    for name in dict.fromkeys(row.algorithm for row in rows):
        algorithm_rows = [row for row in rows if row.algorithm == name]
        numbers = np.arange(2, max(row.evaluations for row in algorithm_rows) + 1)
        shares = np.array([_shares(row, numbers) for row in algorithm_rows])
        low, median, high = np.quantile(shares, (0.25, 0.5, 0.75), axis=0)
        algorithm_curves.append(Curve(name, numbers, low, median, high))
    return algorithm_curves


def search_chart(rows: Sequence[Row], line: str) -> Chart:
    """Medians over the evaluations of each algorithm, with bands between the quartiles.

    Args:
        line: the search; it is below the title.
    """
    drawn = curves(rows)
    marks = []
    for number, curve in enumerate(drawn):
        band = _missing(curve.low), _missing(curve.high)
        x, look = curve.evaluations.astype(np.float64), distinct_staircase(number)
        marks.append(Series(curve.algorithm, x, _missing(curve.median), look, band=band))
    n_seeds = len({row.seed for row in rows})
    seeds = f"{n_seeds} seeds: medians, quartiles shaded" if n_seeds > 1 else "one seed"
    panel = Panel(_evaluations_axis(drawn), _share_axis(drawn), marks)
    return Chart("How near the exact front", f"{line} · {seeds}", [panel], (8.0, 5.2))


def _shares(row: Row, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share after each number of evaluations."""
    steps, shares = np.array([n for n, _ in row.hypervolume]), np.array([0.0, *(share for _, share in row.hypervolume)])
    return np.asarray(shares[np.searchsorted(steps, numbers, side="right")])


def _missing(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(1 - shares, _NEAREST / 10))


def _evaluations_axis(drawn: Sequence[Curve]) -> Axis:
    last = max(int(curve.evaluations[-1]) for curve in drawn)
    if last <= _LONG:
        return Axis("Evaluations", range=(0, last), is_integer=True)
    return Axis("Evaluations", log_ticks(np.array([10.0, last])), range=(10, last), is_log=True)


def _share_axis(drawn: Sequence[Curve]) -> Axis:
    """The axis of the difference to 1, the larger first: from the worst start to the best end, with at least two ticks."""
    worst = max(1 - float(curve.low[_SETTLED if len(curve.low) > _SETTLED else 0]) for curve in drawn)
    best = min(float(1 - curve.high[-1]) for curve in drawn)
    top, bottom = min(1.0, worst), max(_NEAREST, 0.7 * best)
    ticks = [1 - tick for tick in _TICKS]
    if sum(bottom <= tick <= top for tick in ticks) < 2:  # a short run
        bottom = max((tick for tick in ticks if tick <= bottom), default=bottom)
        while sum(bottom <= tick <= top for tick in ticks) < 2:
            top = min(tick for tick in ticks if tick > top)
    shares = [share for share in _TICKS if bottom * 0.999 <= 1 - share <= top * 1.001]
    labels = [f"{100 * share:g} %" for share in shares]
    return Axis("Share of the exact hypervolume", [1 - share for share in shares], labels, (top, bottom), is_log=True)
