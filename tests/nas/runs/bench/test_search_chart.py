"""The plot of a benchmark of searches: medians and quartiles of the rows."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from nas.results.plots.matplotlib_charts import figure_of
from nas.results.plots.picture_files import write_picture
from nas.runs.bench.results_file import Row
from nas.runs.bench.search_chart import curves, search_chart


def row(algorithm: str, seed: int, *pairs: tuple[int, float]) -> Row:
    return Row(algorithm, seed, {"0.9": None}, pairs, 0.1)


ROWS = [
    row("a", 0, (1, 0.1), (2, 0.2), (4, 0.8)),
    row("a", 1, (2, 0.3), (5, 0.99)),
    row("a", 2, (2, 0.1), (5, 0.9)),
    row("b<c>", 0, (2, 0.5), (700, 1.0)),
]


def test_curves_are_quartiles_of_the_steps() -> None:
    first, second = curves(ROWS)
    assert (first.algorithm, second.algorithm) == ("a", "b<c>")
    assert first.evaluations.tolist() == [2, 3, 4, 5]
    assert first.median.tolist() == [0.2, 0.2, 0.3, 0.9]  # the first run ended with 0.8
    assert first.low == pytest.approx([0.15, 0.15, 0.2, 0.85])
    assert first.high == pytest.approx([0.25, 0.25, 0.55, 0.945])
    assert second.median[[0, -2, -1]].tolist() == [0.5, 0.5, 1.0]


def test_the_figure_has_a_line_and_a_band_an_algorithm() -> None:
    (axis,) = figure_of(search_chart(ROWS, "a table: gain, cost")).axes
    assert [line.get_label() for line in axis.lines] == ["a", "b<c>"]
    assert len(axis.collections) == 2
    assert len({line.get_color() for line in axis.lines}) == 2
    x, missing = np.asarray(axis.lines[0].get_xydata()).T
    assert x.tolist() == [2, 3, 4, 5]
    assert missing == pytest.approx([0.8, 0.8, 0.7, 0.1])
    assert axis.get_xscale() == "log"  # 700 evaluations
    assert figure_of(search_chart(ROWS[:3], "")).axes[0].get_xscale() == "linear"


def test_a_short_run_has_marks_on_both_axes() -> None:
    for pairs in ([(2, 0.16)], [(2, 0.7), (8, 0.86)], [(2, 0.9985)], [(2, 0.9991)]):
        (axis,) = figure_of(search_chart([row("a", 0, *pairs)], "")).axes
        low, high = sorted(axis.get_ylim())
        marks = [mark for mark in axis.get_yticks() if low * 0.999 <= mark <= high * 1.001]
        assert len(marks) >= 2
        missing = np.asarray(axis.lines[0].get_ydata())
        assert ((low <= missing) & (missing <= high)).all()
        assert all(mark == int(mark) for mark in axis.get_xticks())


def test_each_format_is_what_its_name_says(tmp_path: Path) -> None:
    for name in ("plot.png", "new/plot.svg"):
        write_picture(tmp_path / name, search_chart(ROWS, "a table: gain & cost"))
    with Image.open(tmp_path / "plot.png") as image:
        assert image.format == "PNG"
    ElementTree.parse(tmp_path / "new" / "plot.svg")
