"""The small picture of a front places points where their values are."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from nas.visualization import colours
from nas.visualization.front_panels import Axis, Look, Panel, Series
from nas.visualization.panel_svg import legend, panel_svg

_SVG = "{http://www.w3.org/2000/svg}"


def panel(x: list[float], y: list[float], *, ticks: tuple[float, ...] = ()) -> Panel:
    xs, ys, none = np.array(x), np.array(y), np.zeros(len(x))
    front = Series("front", (), Look(colours.FRONT, line="solid", steps=True, errors=0.4), xs, ys, none, none)
    nearest = Series("nearest", (), Look(colours.NEAREST, "star"), xs[:1], ys[:1], none[:1], none[:1])
    return Panel(Axis("cost <ms>", ticks, ()), Axis("quality", (), ()), [front, nearest])


def circles(svg: str) -> list[tuple[float, float]]:
    root = ElementTree.fromstring(svg)
    return [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in root.iter(f"{_SVG}circle")]


def test_places_are_proportional_to_values_and_higher_is_up() -> None:
    places = np.array(circles(panel_svg(panel([0.0, 1.0, 4.0], [0.0, 2.0, 3.0])))[:3])
    steps = np.diff(places, axis=0)
    assert steps[1, 0] / steps[0, 0] == pytest.approx(3.0, abs=0.02)
    assert steps[0, 1] / steps[1, 1] == pytest.approx(2.0, abs=0.02)
    assert (steps[:, 0] > 0).all()
    assert (steps[:, 1] < 0).all()


def test_a_logarithmic_axis_spaces_factors_evenly() -> None:
    svg = panel_svg(panel([1.0, 10.0, 100.0], [0.0, 1.0, 2.0], ticks=(1.0, 10.0, 100.0, 1000.0)))
    places = [x for x, _ in circles(svg)[:3]]
    assert places[2] - places[1] == pytest.approx(places[1] - places[0], abs=0.2)
    texts = [t.text for t in ElementTree.fromstring(svg).iter(f"{_SVG}text")]
    assert "100" in texts
    assert "1000" not in texts
    assert "cost <ms>" in texts


def test_a_front_is_a_staircase_along_x_first() -> None:
    svg = panel_svg(panel([0.0, 1.0], [0.0, 1.0]))
    (ax, ay), (bx, by) = circles(svg)[:2]
    assert f'd="M{ax:g} {ay:g}H{bx:g}V{by:g}"' in svg


@pytest.mark.parametrize(("x", "y"), [([2.0], [5.0]), ([0.0, 0.0], [0.0, 0.0]), ([1e-9, 2e-9], [1e9, 3e9])])
def test_equal_and_extreme_values_are_placed_within_the_picture(x: list[float], y: list[float]) -> None:
    for cx, cy in circles(panel_svg(panel(x, y))):
        assert 0 < cx < 560
        assert 0 < cy < 320


def test_the_legend_has_the_page_s_own_colour_in_place_of_black() -> None:
    assert legend(panel([1.0], [1.0])) == [("nearest", "currentColor"), ("front", colours.FRONT.light)]
