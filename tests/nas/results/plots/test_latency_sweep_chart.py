"""The plot of a sweep shows every width with its latency, and highlights the aligned and proposed ones."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from nas.errors import NasError
from nas.jobs.planning.latency_sweep import WidthSweep
from nas.results.plots.latency_sweep_chart import sweep_chart
from nas.results.plots.matplotlib_charts import figure_of
from nas.results.plots.picture_files import write_chart
from supernets.families.convolutional.mobile_cnn_spec import StageSpec
from tests.errors import raises

SPEC = StageSpec(stride=1, depth=(1,), width=(12, 16), kernel=(3,), expand=(2,))
WIDTHS = tuple(range(6, 25))
TIMES = tuple(-(-w // 8) * (1.0 if w % 2 == 0 else 9.0) for w in WIDTHS)
STEPPED = WidthSweep(0, SPEC, WIDTHS, TIMES, (0.1,) * len(WIDTHS), (8, 16), (8, 16))
LEVEL = WidthSweep(1, SPEC, (8, 16, 24), (1.0, 1.1, 1.2), (0.05,) * 3, (8, 16, 24), (12, 16))


def points(axis: Axes) -> dict[str, list[list[float]]]:
    """The points of each series with error bars, by label: these are drawn right before the points."""
    lines = axis.get_lines()
    pairs = [(line, bars) for bars, line in pairwise(lines) if np.isnan(np.asarray(bars.get_xydata())).any()]
    for line, bars in pairs:
        ends = np.asarray(bars.get_xydata()).reshape(-1, 3, 2)[:, :2]
        vertical = ends[len(ends) // 2 :]
        assert vertical.mean(axis=1) == pytest.approx(np.asarray(line.get_xydata()))
        assert (np.diff(vertical[:, :, 1]) > 0).all()
    return {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line, _ in pairs}


def test_every_width_is_shown_once_in_its_series() -> None:
    stepped, level = figure_of(sweep_chart([STEPPED, LEVEL], "cpu-1-thread")).axes
    shown = points(stepped)
    times = dict(zip(WIDTHS, TIMES, strict=True))
    assert shown["aligned: the end of a step"] == [[8, 1.0], [16, 2.0]]
    assert shown["measured (± error)"] == [[w, times[w]] for w in WIDTHS if w not in (8, 16)]
    lines = {str(line.get_label()): line for line in stepped.get_lines()}
    assert np.asarray(lines["proposed for the job file"].get_xydata()).tolist() == [[8, 1.0], [16, 2.0]]
    assert np.asarray(lines["widths in the job"].get_xdata()).tolist() == [12, 16]
    least = np.asarray(lines["fastest of this width or wider"].get_ydata())
    assert least.tolist() == [min(TIMES[i:]) for i in range(len(WIDTHS))]
    assert (stepped.get_yscale(), level.get_yscale()) == ("log", "linear")
    assert points(level) == {"measured (± error)": [[8, 1.0], [16, 1.1], [24, 1.2]]}
    assert "no steps" in level.get_title(loc="left")


def test_bands_change_at_the_ends_of_steps() -> None:
    (axis,) = figure_of(sweep_chart([STEPPED], "cpu-1-thread")).axes
    boxes = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axis.patches]  # type: ignore[attr-defined]
    assert boxes == [(5.5, 8.5), (16.5, 24.5)]


def test_the_files_are_complete_and_repeatable(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    paths = write_chart("sweep", sweep_chart([STEPPED, LEVEL], "cpu-$1"), folder)
    assert [path.name for path in paths] == ["sweep.png", "sweep.svg"]
    with Image.open(paths[0]) as image:
        assert image.width > 1000
    text = "".join(ElementTree.parse(paths[1]).getroot().itertext())
    assert text.strip()
    before = [path.read_bytes() for path in paths]
    assert [
        path.read_bytes() for path in write_chart("sweep", sweep_chart([STEPPED, LEVEL], "cpu-$1"), folder)
    ] == before


def test_missing_sweeps_and_unusable_folders_are_rejected(tmp_path: Path) -> None:
    with raises("sweep.empty"):
        sweep_chart([], "cpu-1-thread")
    (tmp_path / "file").write_text("")
    with pytest.raises(NasError, match=str(tmp_path / "file")):
        write_chart("sweep", sweep_chart([LEVEL], "cpu-1-thread"), tmp_path / "file" / "in")
