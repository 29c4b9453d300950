"""The chart of `nas profile --sweep`: latency against width with its steps, one panel per stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from hardware_profiles.latency_steps import least_latency
from nas.errors import NasError
from nas.results.plots import colours
from nas.results.plots.charts import Array, Axis, Chart, Look, Panel, Series

if TYPE_CHECKING:  # it is above this package
    from nas.jobs.planning.latency_sweep import WidthSweep

_MAX_COLUMNS = 3


def sweep_chart(sweeps: Sequence[WidthSweep], profile_name: str) -> Chart:
    """The chart, one panel per stage: widths with errors, aligned widths, and bands of equal latency.

    Raises:
        NasError: there is no sweep.
    """
    if not sweeps:
        raise NasError("no sweep to plot: the job's space has no stages", code="sweep.empty")
    n_columns = min(_MAX_COLUMNS, len(sweeps))
    size = (max(8.0, 4.9 * n_columns), 4.0 * math.ceil(len(sweeps) / n_columns) + 1.2)
    line = f"{profile_name} · the blocks that depend on a stage's width, fp32"
    return Chart("Latency against width", line, [_panel(sweep) for sweep in sweeps], size, n_columns)


def _panel(sweep: WidthSweep) -> Panel:
    widths, latencies = np.array(sweep.widths, np.float64), np.array(sweep.latency_ms)
    y = Axis.of_values("Latency (ms)", latencies)
    bottom = 0.6 * float(latencies.min()) if y.is_log else 0.0
    aligned = np.isin(widths, sweep.aligned) if sweep.stepped else np.zeros(len(widths), bool)
    marks = []
    if sweep.stepped:
        # A width costs as much as the next measured one.
        look = Look(colours.FRONT, line="solid", width=1.5, steps="before", opacity=0.55)
        fastest = np.array(least_latency(sweep.latency_ms))
        marks.append(Series("fastest of this width or wider", widths, fastest, look))
    errors = np.array(sweep.errors_ms)
    for name, mask, look in (
        ("measured (± error)", ~aligned, Look(colours.MEASURED, "circle", size=6, errors=1.0)),
        ("aligned: the end of a step", aligned, Look(colours.FRONT, "circle", size=10, errors=1.0)),
    ):
        if mask.any():
            marks.append(Series(name, widths[mask], latencies[mask], look, y_errors=errors[mask]))
    marks += [_proposed(sweep, widths, latencies), _in_job(sweep, bottom)]
    x = Axis("Width (channels)", range=(sweep.widths[0] - 1, sweep.widths[-1] + 1), is_integer=True)
    remark = "" if sweep.stepped else ": no steps, all widths are equally good"
    spans = _steps(sweep) if sweep.stepped else []
    return Panel(x, replace(y, range=(bottom, None)), marks, title=f"Stage {sweep.stage}{remark}", spans=spans)


def _proposed(sweep: WidthSweep, widths: Array, latencies: Array) -> Series:
    """Rings and numbers at the proposed widths; without steps, one may not have been measured."""
    mask, look = np.isin(widths, sweep.chosen), Look(colours.PREDICTED, "circle", size=18, hollow=True)
    labels = [f"{width:.0f}" for width in widths[mask]]
    return Series("proposed for the job file", widths[mask], latencies[mask], look, labels=labels)


def _in_job(sweep: WidthSweep, bottom: float) -> Series:
    """Triangles on the axis at the job's own widths."""
    options, look = np.array(sweep.options, np.float64), Look(colours.SMALLEST, "triangle-up", size=14)
    return Series("widths in the job", options, np.full(len(options), bottom), look, is_clipped=False)


def _steps(sweep: WidthSweep) -> list[tuple[float, float]]:
    """Every second step, from the end of the previous one to its own end."""
    ends = [sweep.widths[0] - 1, *sweep.aligned, sweep.widths[-1]]
    return [(before + 0.5, end + 0.5) for before, end in list(pairwise(ends))[::2] if end > before]
