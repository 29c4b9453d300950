"""The plot of `nas bench search --plot`: shares of a table's exact hypervolume over evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nas.results.plots.style import SOFT, STYLE, add_heading

if TYPE_CHECKING:
    from nas.runs.bench.results_file import Row

# Okabe and Ito (2008) without their yellow, which fades on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5F6770")
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


def search_figure(rows: Sequence[Row], line: str) -> Figure:
    """Medians over the evaluations of each algorithm, with bands between the quartiles.

    Args:
        line: the search; it is below the title.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 5.2))
        axis = figure.subplots()
        drawn = curves(rows)
        for number, curve in enumerate(drawn):
            colour, dashed = _look(number)
            axis.fill_between(
                curve.evaluations,
                _missing(curve.low),
                _missing(curve.high),
                step="post",
                color=colour,
                alpha=0.16,
                linewidth=0,
            )
            axis.plot(
                curve.evaluations,
                _missing(curve.median),
                drawstyle="steps-post",
                color=colour,
                linewidth=2,
                linestyle=(0, (4, 2)) if dashed else "-",
                label=curve.algorithm,
                zorder=3,
            )
        _set_axes(axis, drawn)
        add_heading(figure, "How near the exact front", _subtitle(rows, line))
        figure.legend(loc="outside lower center", ncols=min(4, len(drawn)), columnspacing=1.8)
    return figure


def _shares(row: Row, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share after each number of evaluations."""
    steps, shares = np.array([n for n, _ in row.hypervolume]), np.array([0.0, *(share for _, share in row.hypervolume)])
    return np.asarray(shares[np.searchsorted(steps, numbers, side="right")])


def _missing(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(1 - shares, _NEAREST / 10))


def _set_axes(axis: Axes, drawn: Sequence[Curve]) -> None:
    ticks = _ticks(drawn)
    axis.set_yscale("log")
    axis.set_ylim(*_limits(drawn))
    axis.yaxis.set_major_locator(ticker.FixedLocator([1 - tick for tick in ticks]))
    axis.yaxis.set_major_formatter(ticker.FixedFormatter([_percent(tick) for tick in ticks]))
    axis.yaxis.set_minor_locator(ticker.NullLocator())
    if _is_long(drawn):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
    else:
        axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axis.set_xlim(10 if _is_long(drawn) else 0, max(int(curve.evaluations[-1]) for curve in drawn))
    axis.set_xlabel("Evaluations")
    axis.set_ylabel("Share of the exact hypervolume")
    axis.tick_params(colors=SOFT)


def _is_long(drawn: Sequence[Curve]) -> bool:
    return max(int(curve.evaluations[-1]) for curve in drawn) > _LONG


def _limits(drawn: Sequence[Curve]) -> tuple[float, float]:
    """The ends of the axis of the difference to 1, the larger first: from the worst start to the best end.

    At least two ticks are between them.
    """
    worst = max(1 - float(curve.low[_SETTLED if len(curve.low) > _SETTLED else 0]) for curve in drawn)
    best = min(float(1 - curve.high[-1]) for curve in drawn)
    top, bottom = min(1.0, worst), max(_NEAREST, 0.7 * best)
    ticks = [1 - tick for tick in _TICKS]
    if sum(bottom <= tick <= top for tick in ticks) < 2:  # a short run
        bottom = max((tick for tick in ticks if tick <= bottom), default=bottom)
        while sum(bottom <= tick <= top for tick in ticks) < 2:
            top = min(tick for tick in ticks if tick > top)
    return top, bottom


def _ticks(drawn: Sequence[Curve]) -> list[float]:
    top, bottom = _limits(drawn)
    return [tick for tick in _TICKS if bottom * 0.999 <= 1 - tick <= top * 1.001]


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _look(number: int) -> tuple[str, bool]:
    """Colour, and whether the line is dashed: colours repeat from the eighth algorithm on."""
    return COLOURS[number % len(COLOURS)], number >= len(COLOURS)


def _subtitle(rows: Sequence[Row], line: str) -> str:
    seeds = len({row.seed for row in rows})
    return f"{line} · {seeds} seeds: medians, quartiles shaded" if seeds > 1 else f"{line} · one seed"
