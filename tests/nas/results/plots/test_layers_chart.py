"""The picture of a model's layers: a bar for each, what every network has and what may be left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.results.plots.layers_chart import layers_chart
from nas.results.plots.matplotlib_charts import figure_of
from nas.results.plots.picture_files import write_picture
from supernets.families.captured.inspection import Inspection, LayerWork
from tests.errors import raises

ROWS = [("stem", 100_000_000, 100_000_000), ("blocks.0", 0, 300_000_000), ("head", 50_000_000, 200_000_000)]


def test_bars_start_with_what_every_network_has_and_end_at_the_largest() -> None:
    [axis] = figure_of(layers_chart(ROWS, title="net", line="")).axes
    kept, fixed, removable = ([bar.get_width() for bar in bars] for bars in axis.containers)
    assert (kept, fixed, removable) == ([0, 0, 50], [100, 0, 0], [0, 300, 150])
    assert [bar.get_x() for bar in axis.containers[2]] == [100, 0, 50]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["stem", "blocks.0", "head"]
    assert axis.yaxis_inverted()
    assert axis.containers[0][0].get_facecolor() != axis.containers[1][0].get_facecolor()


def test_the_legend_names_fixed_layers_only_where_there_are_some() -> None:
    def names(rows: list[tuple[str, int, int]]) -> list[str]:
        [legend] = figure_of(layers_chart(rows, title="net", line="")).legends
        return [text.get_text() for text in legend.get_texts()]

    assert names(ROWS) == ["in every network", "in a layer that stays as it is", "may be left out"]
    assert names(ROWS[1:]) == ["in every network", "may be left out"]


def test_only_pictures_are_written(tmp_path: Path) -> None:
    chart = layers_chart(ROWS, title="net $x$", line="of layers")
    write_picture(tmp_path / "made" / "a.svg", chart)
    assert "net $x$" in (tmp_path / "made" / "a.svg").read_text()
    (tmp_path / "folder.png").mkdir()
    for name in ("a.txt", "folder.png"):
        with raises("plot.invalid-path", name, ".png or .svg"):
            write_picture(tmp_path / name, chart)
    (tmp_path / "file").write_text("")
    with raises("file.not-a-folder", str(tmp_path / "file")):
        write_picture(tmp_path / "file" / "a.png", chart)


@pytest.mark.parametrize(("most", "names"), [(9, 5), (3, 3), (2, 2)])
def test_layers_are_grouped_by_what_contains_them(most: int, names: int) -> None:
    layers = [("stem", 1, 1), ("a.0.x", 1, 2), ("a.0.x:2", 0, 2), ("a.0.y", 1, 2), ("b.0", 3, 9), ("b.1", 1, 1)]
    found = Inspection.grouped(_of([LayerWork(*layer) for layer in layers]), most)
    assert len(found) == names
    assert (sum(part.smallest for part in found), sum(part.largest for part in found)) == (7, 17)
    if most == 3:
        assert [part.name for part in found] == ["stem", "a", "b"]
    if most == 2:
        assert [part.name for part in found] == ["b", "others"]


def _of(layers: list[LayerWork]) -> Inspection:
    """An inspection of which only the layers are read."""
    found = object.__new__(Inspection)
    object.__setattr__(found, "layers", tuple(layers))
    return found
