"""The style of figures, and figures as files (matplotlib, without global state)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from PIL import Image

from nas.engine.store.folder import check_folder, make_folder, write_atomically
from nas.errors import NasError

INK, SOFT, RULE = "#22262B", "#5F6770", "#E4E7EA"
STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a name may contain a dollar sign
    "svg.hashsalt": "subnet-nas",  # equal figures give equal bytes
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": "#B9BFC6",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    # Titles stay right above their axes: to find a place, matplotlib would measure all tick labels again. So tick labels must
    # not have a common factor or offset, which would be written there.
    "axes.titley": 1.0,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-6, 9),
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
}
_DPI = 150
_COMPRESS_LEVEL = 1
"""Instead of Pillow's 6: less than half the time, for files that are a tenth larger."""
_HEAD_INCHES = 0.62
_SUFFIXES = (".png", ".svg")


def add_heading(figure: Figure, title: str, line: str) -> None:
    """Writes a title and a line below it at the top left, above the axes."""
    height = figure.get_figheight()
    figure.text(0.015, 1 - 0.14 / height, title, va="top", fontsize=13, fontweight="bold")
    figure.text(0.015, 1 - 0.42 / height, line, va="top", color=SOFT)
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, rect=(0, 0, 1, 1 - _HEAD_INCHES / height)))


def thin_ticks(axis: Axes) -> None:
    """Limits each side to seven ticks, for small panels: a tick takes as long to draw as a line of text."""
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 4, 5, 10]))


def files_of(name: str, figure: Figure) -> dict[str, bytes]:
    """The figure as ``NAME.png`` and ``NAME.svg``; equal figures give equal bytes."""
    png, svg = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(STYLE):
        # `savefig` would draw everything twice, the first time for the layout, which drawing makes anyway.
        figure.set_dpi(_DPI)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        opaque = np.asarray(canvas.buffer_rgba())[:, :, :3]  # type: ignore[no-untyped-call]
        Image.fromarray(opaque).save(png, format="png", dpi=(_DPI, _DPI), compress_level=_COMPRESS_LEVEL)
        figure.set_layout_engine("none")  # done above; it takes as long as drawing
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
    return {f"{name}.png": png.getvalue(), f"{name}.svg": svg.getvalue()}


def check_picture_path(path: Path) -> None:
    """Raises `NasError` unless a picture can be written to a path: as .png or .svg, in a folder that exists or can be made."""
    if path.suffix not in _SUFFIXES or path.is_dir():
        raise NasError(f"{path}: expected a file that ends in .png or .svg", code="plot.invalid-path")
    check_folder(path.absolute().parent)


def write_picture(path: Path, figure: Figure) -> None:
    """Writes a figure as PNG or SVG, by the suffix of the path.

    Raises:
        NasError: see `check_picture_path`.
        StoreError: The file cannot be written.
    """
    check_picture_path(path)
    make_folder(path.absolute().parent)
    write_atomically(path, files_of(path.stem, figure)[path.name])
