"""The plot of `nas profile --sweep`: latency against width with its steps, one panel per stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from hardware_profiles.latency_steps import least_latency
from nas.engine.store.folder import write_all
from nas.errors import NasError
from nas.results.plots import colours
from nas.results.plots.chart_data import LOG_SPAN
from nas.results.plots.style import SOFT, STYLE, add_heading, files_of

if TYPE_CHECKING:  # it is above this package
    from nas.jobs.planning.latency_sweep import WidthSweep

_COLUMNS = 3
_BAND = "#EAF2F8"


def plot_sweep(sweeps: Sequence[WidthSweep], profile_name: str, folder: Path) -> list[Path]:
    """The paths of ``sweep.png`` and ``sweep.svg``, written into the folder, which is created if it is missing."""
    return write_all(folder, files_of("sweep", sweep_figure(sweeps, profile_name)))


def sweep_figure(sweeps: Sequence[WidthSweep], profile_name: str) -> Figure:
    """The figure, one panel per stage: widths with errors, aligned widths, and bands of equal latency.

    Raises:
        NasError: there is no sweep.
    """
    if not sweeps:
        raise NasError("no sweep to plot: the job's space has no stages", code="sweep.empty")
    n_columns = min(_COLUMNS, len(sweeps))
    n_rows = math.ceil(len(sweeps) / n_columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(8.0, 4.9 * n_columns), 4.0 * n_rows + 1.2))
        axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for sweep, axis in zip(sweeps, axes, strict=False):
            _draw(axis, sweep)
        for spare in axes[len(sweeps) :]:
            spare.set_visible(False)
        subtitle = f"{profile_name} · the blocks that depend on a stage's width, fp32"
        add_heading(figure, "Latency against width", subtitle)
        handles = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        n_legend = 5 if n_columns > 2 else 3
        figure.legend([*handles.values()], [*handles], loc="outside lower center", ncols=n_legend, columnspacing=1.8)
    return figure


def _draw(axis: Axes, sweep: WidthSweep) -> None:
    measured, aligned = set(sweep.widths), set(sweep.aligned) if sweep.stepped else set[int]()
    if sweep.stepped:
        _draw_bands(axis, sweep)
        axis.plot(
            sweep.widths,
            least_latency(sweep.latency_ms),
            drawstyle="steps-pre",  # a width costs as much as the next measured one
            color=colours.FRONT.light,
            linewidth=1.2,
            alpha=0.55,
            label="fastest of this width or wider",
            zorder=2,
        )
    _draw_points(axis, sweep, measured - aligned, "measured (± error)", colours.MEASURED.light, size=4.0, zorder=3)
    _draw_points(axis, sweep, aligned, "aligned: the end of a step", colours.FRONT.light, size=6.5, zorder=4)
    _draw_chosen(axis, sweep)
    _set_axes(axis, sweep)


def _draw_points(
    axis: Axes, sweep: WidthSweep, widths: set[int], label: str, colour: str, *, size: float, zorder: int
) -> None:
    shown = [(w, t, e) for w, t, e in zip(sweep.widths, sweep.latency_ms, sweep.errors_ms, strict=True) if w in widths]
    if not shown:
        return
    x, y, errors = zip(*shown, strict=True)
    axis.errorbar(
        x,
        y,
        yerr=errors,
        fmt="o",
        color=colour,
        ecolor=colour,
        elinewidth=1.1,
        markersize=size,
        markeredgecolor="white",
        markeredgewidth=0.6,
        label=label,
        zorder=zorder,
    )


def _draw_chosen(axis: Axes, sweep: WidthSweep) -> None:
    """Rings and numbers for the proposed widths, and triangles at the bottom for the job's own."""
    times = dict(zip(sweep.widths, sweep.latency_ms, strict=True))
    proposed = [width for width in sweep.chosen if width in times]  # without steps, one may not have been measured
    axis.plot(
        proposed,
        [times[width] for width in proposed],
        "o",
        markersize=12,
        markerfacecolor="none",
        markeredgecolor=colours.PREDICTED.light,
        markeredgewidth=1.6,
        label="proposed for the job file",
        zorder=5,
    )
    for width in proposed:
        axis.annotate(
            str(width),
            (width, times[width]),
            xytext=(0, -10),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=9,
            color=colours.PREDICTED.light,
        )
    axis.plot(
        sweep.options,
        [0.0] * len(sweep.options),
        "^",
        transform=axis.get_xaxis_transform(),
        clip_on=False,
        color=colours.SMALLEST.light,
        markersize=8,
        label="widths in the job",
        zorder=6,
    )


def _draw_bands(axis: Axes, sweep: WidthSweep) -> None:
    """Shades every second step, from the end of the previous one to its own end."""
    ends = [sweep.widths[0] - 1, *sweep.aligned, sweep.widths[-1]]
    for i, (before, end) in enumerate(pairwise(ends)):
        if i % 2 == 0 and end > before:
            axis.axvspan(before + 0.5, end + 0.5, color=_BAND, linewidth=0, zorder=0)


def _set_axes(axis: Axes, sweep: WidthSweep) -> None:
    if max(sweep.latency_ms) >= LOG_SPAN * min(sweep.latency_ms):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_ylim(bottom=min(sweep.latency_ms) * 0.6)
    else:
        axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 4, 8, 10]))
    axis.set_xlabel("Width (channels)")
    axis.set_ylabel("Latency (ms)")
    axis.set_xlim(sweep.widths[0] - 1, sweep.widths[-1] + 1)
    remark = "" if sweep.stepped else ": no steps, all widths are equally good"
    axis.set_title(f"Stage {sweep.stage}{remark}", loc="left", color=SOFT)
