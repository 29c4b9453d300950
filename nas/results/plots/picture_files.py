"""Charts as PNG and SVG files."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from PIL import Image

from nas.engine.store.folder import check_folder, make_folder, write_all, write_atomically
from nas.errors import NasError
from nas.results.plots.charts import Chart
from nas.results.plots.matplotlib_charts import STYLE, figure_of

_DPI = 150
_COMPRESS_LEVEL = 1
"""Instead of Pillow's 6: less than half the time, for files that are a tenth larger."""
_SUFFIXES = (".png", ".svg")


def write_chart(name: str, chart: Chart, folder: Path) -> list[Path]:
    """The paths of ``NAME.png`` and ``NAME.svg``, written into the folder, which is created if it is missing."""
    return write_all(folder, files_of(name, chart))


def files_of(name: str, chart: Chart) -> dict[str, bytes]:
    """The chart as ``NAME.png`` and ``NAME.svg``; equal charts give equal bytes."""
    figure, png, svg = figure_of(chart), io.BytesIO(), io.BytesIO()
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


def write_picture(path: Path, chart: Chart) -> None:
    """Writes a chart as PNG or SVG, by the suffix of the path.

    Raises:
        NasError: see `check_picture_path`.
        StoreError: The file cannot be written.
    """
    check_picture_path(path)
    make_folder(path.absolute().parent)
    write_atomically(path, files_of(path.stem, chart)[path.name])
