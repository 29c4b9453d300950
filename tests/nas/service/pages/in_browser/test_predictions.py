"""The predictions on a run's page: of the network that is chosen, for everybody, on any window."""

from __future__ import annotations

import csv
import json
from typing import Literal
from xml.etree import ElementTree

import pytest

from nas.engine.predictions import Kind
from nas.engine.store.base import RunStatus
from nas.engine.store.opening import open_store
from nas.results.plots.prediction_charts import TITLES
from nas.results.plots.prediction_pictures import words_of
from tests.nas.service.made_runs import predicted
from tests.nas.service.pages import axe
from tests.nas.service.pages.chromium import Chromium
from tests.nas.service.pages.in_browser.windows import chosen, open_run
from tests.nas.service.pages.running import Server

pytestmark = pytest.mark.slow


def _labels(chromium: Chromium) -> list[str]:
    script = "return [...document.querySelectorAll('.examples svg')].map((svg) => svg.getAttribute('aria-label'))"
    labels: list[str] = chromium.run(script)
    return labels


def _show(chromium: Chromium, server: Server, run: str, network: str) -> None:
    """Opens the page of a run with a network, and waits until its predictions are there."""
    open_run(chromium, server, f"{run}?network={network}")
    assert chosen(chromium) == network
    chromium.run("document.getElementById('predictions').scrollIntoView()")
    chromium.until(lambda: chromium.all("#predictions-charts .chart svg"))


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_predictions_are_those_of_the_chosen_network(chromium: Chromium, server: Server, kind: Kind) -> None:
    _, predictions = predicted(server.runs, kind, name="dense")
    first, second, _ = predictions.networks
    _show(chromium, server, "dense-1", first)
    for place in (0, 1):
        expected = [f"{words_of(predictions, shown, i)}" for i in range(6) for shown in (None, place, 2)]
        chromium.until(lambda: [label.partition(": ")[2] for label in _labels(chromium)] == expected)  # noqa: B023
        chromium.click(f"#members tr[data-key='{second}'] button.pick")
    titles = [e.text for e in chromium.all("#predictions-charts h3")]
    assert set(titles) < set(TITLES.values())
    n_loaded = chromium.run(
        "return performance.getEntriesByType('resource').filter((e) => /predictions.[0-5].jpg/.test(e.name)).length"
    )
    assert n_loaded == 6
    other = next(p.key for p in server.service.results.report("dense-1").front if p.key not in predictions.networks)
    chromium.click(f"#members tr[data-key='{other}'] button.pick")
    chromium.until(lambda: chromium.text("#predictions-note").startswith("No predictions are kept of this network"))
    assert not chromium.all(".examples")
    assert not chromium.complaints()


@pytest.mark.parametrize("kind", ["boxes", "masks"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_predictions_fit_a_phone(
    chromium: Chromium, server: Server, kind: Kind, theme: Literal["light", "dark"]
) -> None:
    _, predictions = predicted(server.runs, kind, name="dense")
    for width in (1280, 375):
        chromium.look(width=width, theme=theme)
        _show(chromium, server, "dense-1", predictions.networks[0])
        chromium.until(
            lambda: chromium.run("const e = document.documentElement; return e.scrollWidth - e.clientWidth") == 0
        )
        grave = axe.found(chromium)["grave"]
        assert not grave, json.dumps(grave, indent=1)
        assert not chromium.complaints()


def test_predictions_appear_when_the_run_ends(chromium: Chromium, server: Server) -> None:
    folder, predictions = predicted(server.runs, "boxes", name="dense")
    folder.predictions_file.unlink()
    store = open_store(folder, driver=True)  # this process is its driver
    store.set_status(RunStatus.RUNNING)
    open_run(chromium, server, "dense-1")
    assert not chromium.all("#predictions")
    predictions.write(folder.predictions_file)
    store.set_status(RunStatus.FINISHED)
    store.close()
    chromium.until(lambda: chromium.all("#predictions"))
    assert not chromium.complaints()


def test_tables_of_the_charts_have_the_names_of_classes(chromium: Chromium, server: Server) -> None:
    for kind, chart in (("boxes", "ap_by_class"), ("masks", "confusion")):
        _, predictions = predicted(server.runs, kind, name=kind)  # type: ignore[arg-type]
        _show(chromium, server, f"{kind}-1", predictions.networks[0])
        chromium.click(f"[aria-label='Download {kind}-1-{chart} as CSV']")
        file = chromium.downloaded(f"{kind}-1-{chart}.csv")
        rows = list(csv.reader(file.read_text().splitlines()))
        if kind == "masks":
            confusion = predictions.tables["confusion"][0]
            assert rows[1][:2] == ["background", "background"]
            assert float(rows[1][2]) == pytest.approx(100 * confusion[0, 0] / confusion[0].sum())
            assert len(rows) == 1 + 11 * 11
        else:
            assert {row[2].partition(" (")[0] for row in rows[1:]} == set(predictions.classes)
        chromium.click(f"[aria-label='Download {kind}-1-{chart} as SVG']")
        picture = chromium.downloaded(f"{kind}-1-{chart}.svg")
        assert ElementTree.parse(picture).getroot().tag.endswith("svg")
