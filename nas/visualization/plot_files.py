"""The plots of a run as files, and the page that holds them; matplotlib is loaded where the pictures are drawn alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from nas.analysis.finetuned_runs import Finetuning
from nas.analysis.insight import Insight
from nas.analysis.report import RunReport
from nas.analysis.selection import Limit
from nas.store.folder import write_all
from nas.visualization.chart_data import TITLES
from nas.visualization.forks import Fork, forked
from nas.visualization.html_page import prepare

Files = dict[str, bytes]
Draw = Callable[[RunReport, Sequence[Limit], Insight | None, Sequence[Finetuning]], Callable[[], Files]]
"""Begins to draw `plots.draw_plots`, or does it all later: what it gives waits for the files."""


def draw_here(
    report: RunReport, limits: Sequence[Limit], insight: Insight | None, further: Sequence[Finetuning]
) -> Callable[[], Files]:
    """A `Draw` by this process alone."""
    from nas.visualization.plots import draw_plots

    return partial(draw_plots, report, limits, insight, further)


@contextmanager
def drawing_beside(processes: int) -> Iterator[Draw]:
    """A context in which so many other processes draw, see `forked`; with fewer than two, this one does.

    The first of them loads matplotlib right away, which takes as long as it takes this one to read thousands of networks.
    """
    if processes < 2:
        yield draw_here
        return
    with forked(partial(_draw_what_comes, processes)) as fork:
        yield partial(_draw_there, fork)


def _draw_there(
    fork: Fork[Files],
    report: RunReport,
    limits: Sequence[Limit],
    insight: Insight | None,
    further: Sequence[Finetuning],
) -> Callable[[], Files]:
    fork.send((report, limits, insight, further))
    return fork.result


def _draw_what_comes(processes: int, connection: Connection) -> Files:
    from nas.visualization.plots import draw_plots

    return draw_plots(*connection.recv(), processes=processes)


def write_plots(
    report: RunReport,
    folder: Path,
    *,
    limits: Sequence[Limit] = (),
    insight: Insight | None = None,
    further: Sequence[Finetuning] = (),
    draw: Draw = draw_here,
) -> list[Path]:
    """Writes ``front`` and ``convergence`` as ``.png`` and ``.svg``, and ``front.html``; returns their paths.

    With the run's insight, its pictures too (see `charts.TITLES`), which the page then holds.

    Each file appears whole or not at all. The convergence is left out while there is no hypervolume, and the front
    where a single objective has no limited figure beside it.

    Args:
        further: what trained the run's networks further, drawn beside the front.
        draw: what draws, for instance `drawing_beside`'s.

    Raises:
        NasError: there is nothing to plot (see `charts.panels`).
        StoreError: the folder cannot be made, or a file not be written.
    """
    drawn = draw(report, limits, insight, further)
    page = prepare(report, limits=limits, further=further)
    contents = drawn()
    pictures = {title: contents[f"{name}.svg"].decode() for name, title in TITLES.items() if f"{name}.svg" in contents}
    contents["front.html"] = page(pictures).encode()
    return write_all(folder, contents)
