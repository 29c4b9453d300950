"""Pictures of predictions, and the part of a page that shows them."""

from __future__ import annotations

import io
import json
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from nas.engine.predictions import Kind, Predictions
from nas.results.analysis.report import RunReport, build_report
from nas.results.plots import html_page
from nas.results.plots.charts import Picture
from nas.results.plots.front_chart import front_chart
from nas.results.plots.matplotlib_charts import figure_of
from nas.results.plots.plot_files import write_plots
from nas.results.plots.prediction_pictures import (
    SHOWN_SCORE,
    images_html,
    note_on,
    pictures_chart,
    pictures_html,
    words_of,
)
from nas.results.plots.prediction_section import network_names, predictions_section, shown_first
from supernets.data.class_colours import colour_of
from tests.nas.results.export.runs import example_run
from tests.nas.results.made_predictions import SIDE, made_predictions
from tests.nas.service.pages import axe
from tests.nas.service.pages.chromium import running_chromium

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def report() -> RunReport:
    return build_report(example_run(), run="example-1")


def _of(kind: Kind, report: RunReport) -> Predictions:
    """Predictions of two members of the front and of the largest network."""
    keys = (report.front[0].key, report.front[1].key, report.space.largest.key)
    return made_predictions(kind, keys).predictions


def test_words_name_labels_and_what_is_drawn_of_predictions() -> None:
    predictions = made_predictions("boxes").predictions
    labels = predictions.labels[0]
    assert sum(int(part.split()[0]) for part in words_of(predictions, None, 0).split(", ")) == (labels[:, 0] >= 0).sum()
    detections = predictions.outputs[2, 0]
    words = words_of(predictions, 2, 0)
    assert words.count("%") == (detections[:, 4] >= SHOWN_SCORE).sum() > 0
    assert words.startswith(f"{predictions.classes[int(detections[0, 5])]} {100 * detections[0, 4]:.0f} %")
    nothing = replace(predictions, outputs=np.zeros_like(predictions.outputs))
    assert words_of(nothing, 0, 0) == "no object"


def test_words_of_class_maps_are_shares_of_pixels() -> None:
    predictions = made_predictions("masks").predictions
    share = 100 * (predictions.labels[0] == 0).mean()
    assert words_of(predictions, None, 0).startswith(f"background {share:.0f} %")
    ignored = replace(predictions, labels=np.full_like(predictions.labels, 255))
    assert words_of(ignored, None, 0) == words_of(ignored, 1, 0) == "nothing labelled"


def test_boxes_are_drawn_where_they_are_in_colours_of_their_classes() -> None:
    predictions = made_predictions("boxes").predictions
    page = pictures_html(predictions, 1, "network 7")
    tree = ElementTree.fromstring(f"<div>{page}</div>")
    labels, network, largest = tree.findall("./ul/li")[0].findall(".//svg")
    boxes = [rect.attrib for rect in labels.findall("./g/rect")]
    rows = predictions.labels[0]
    expected = rows[rows[:, 0] >= 0][::-1]
    assert len(boxes) == len(expected)
    for box, row in zip(boxes, expected, strict=True):
        corner = [float(box["x"]), float(box["y"])]
        far_corner = [corner[0] + float(box["width"]), corner[1] + float(box["height"])]
        np.testing.assert_allclose([*corner, *far_corner], row[1:5], atol=0.06)
        assert box["stroke"] == f"#{bytes(colour_of(int(row[0]))).hex()}"
    for svg, words in ((network, words_of(predictions, 1, 0)), (largest, words_of(predictions, 2, 0))):
        assert svg.attrib["role"] == "img"
        assert svg.attrib["aria-label"].endswith(words)


def test_class_maps_cover_the_images_in_colours_of_their_classes() -> None:
    predictions = made_predictions("masks").predictions
    page = pictures_html(predictions, 1, "network 7")
    layer = re.findall(r'href="data:image/png;base64,([^"]+)"', page)[1]
    drawn = np.asarray(Image.open(io.BytesIO(b64decode(layer))).convert("RGBA"))
    classes = predictions.outputs[1, 0]
    assert (drawn[..., 3] == 0).tolist() == (classes == 0).tolist()
    for label in np.unique(classes[classes > 0]):
        assert {tuple(colour) for colour in drawn[classes == label][:, :3].tolist()} == {colour_of(int(label))}


def test_ignored_pixels_are_painted_nowhere() -> None:
    predictions = made_predictions("masks").predictions
    ignored = replace(predictions, labels=np.full_like(predictions.labels, 255))
    for panel in pictures_chart(ignored, 1, "network 7").panels:
        [picture] = [mark for mark in panel.marks if isinstance(mark, Picture)]
        assert any(
            np.array_equal(picture.pixels, np.asarray(Image.open(io.BytesIO(image)))) for image in ignored.images
        )


def test_names_are_escaped() -> None:
    predictions = made_predictions("boxes").predictions
    odd = replace(predictions, classes=("<b>&\"'",) * 10, names=("<script>",) * 6)
    page = pictures_html(odd, 1, "<i>") + images_html(odd, ['"><script>'] * 6)
    assert "<script>" not in page
    assert "<b>" not in page
    assert "<i>" not in page


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_the_picture_has_a_row_for_labels_and_each_network(kind: Kind) -> None:
    chart = pictures_chart(made_predictions(kind).predictions, 1, "network 7")
    assert [panel.y.title for panel in chart.panels[::6]] == ["labels", "network 7", "largest network"]
    figure = figure_of(chart)
    assert len(figure.axes) == 18
    assert all(axis.images[0].get_size() == (SIDE, SIDE) for axis in figure.axes)
    if kind == "masks":
        [legend] = figure.legends
        assert {text.get_text() for text in legend.get_texts()} < set(made_predictions(kind).predictions.classes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_plots_show_the_member_at_the_knee_and_the_page_every_one(
    kind: Kind, report: RunReport, tmp_path: Path
) -> None:
    predictions = _of(kind, report)
    names = {path.name for path in write_plots(report, tmp_path, predictions=predictions)}
    assert {"predictions.png", "predictions.svg"} < names
    assert note_on(predictions) in (tmp_path / "front.html").read_text()


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_the_page_has_pictures_and_charts_of_each_network(kind: Kind, report: RunReport) -> None:
    predictions = _of(kind, report)
    names = network_names(predictions, report)
    first = shown_first(predictions, report)
    section = predictions_section(predictions, names, first)
    assert list(names.values())[-1] == "largest network"
    data = json.loads(section.partition('id="predictions-data">')[2].partition("</script>")[0])
    for key, name in names.items():
        assert f'<option value="{key}"{" selected" if key == first else ""}>{name}</option>' in section
        assert section.count(f'data-pictures="{key}"') == 1
        assert {f'id="predictions-{chart}"' in section for chart in data[key]} == {True}
    assert section.count('id="example-0"') == 1


@pytest.mark.slow
def test_the_page_shows_the_network_that_is_chosen_or_clicked(report: RunReport, tmp_path: Path) -> None:
    predictions = _of("boxes", report)
    page = html_page.page(report, front_chart(report), None, predictions=predictions)
    (tmp_path / "front.html").write_text(page)
    first, second, largest = predictions.networks
    with running_chromium(tmp_path) as chromium:
        chromium.open(f"file://{tmp_path / 'front.html'}")

        def shows(key: str) -> bool:
            labels = chromium.run(
                "return [...document.querySelectorAll('.examples svg')].map((svg) => svg.getAttribute('aria-label'))"
            )
            name = network_names(predictions, report)[key]
            words = f"{name}: {words_of(predictions, predictions.networks.index(key), 0)}"
            drawn = chromium.run("return document.getElementById('predictions-ap_by_class').data.map((t) => t.name)")
            chosen = chromium.run("return document.getElementById('predictions-network').value")
            return any(label.endswith(words) for label in labels) and name in drawn and chosen == key

        for key in (second, first):
            chromium.click(f"tr[data-key='{key}'] td")
            chromium.until(lambda: shows(key))  # noqa: B023
        chromium.click(f"#predictions-network option[value='{largest}']")
        chromium.until(lambda: shows(largest))
        assert not axe.found(chromium)["grave"]
        assert not chromium.complaints()


def test_without_predictions_plots_show_nothing_new(report: RunReport, tmp_path: Path) -> None:
    names = {path.name for path in write_plots(report, tmp_path)}
    assert names == {f"{name}.{suffix}" for name in ("front", "convergence") for suffix in ("png", "svg")} | {
        "front.html"
    }
    assert "predictions-pictures" not in (tmp_path / "front.html").read_text().replace('ById("predictions-pictures', "")


def test_the_network_that_is_shown_first_is_nearest_to_the_knee(report: RunReport) -> None:
    largest = report.space.largest.key
    alone = made_predictions("boxes", ("0-0", largest)).predictions
    assert shown_first(alone, report) == largest
    last = report.front[-1].key
    if last != largest:
        assert shown_first(made_predictions("boxes", (last, largest)).predictions, report) == last
