"""The page that compares runs."""

from __future__ import annotations

import csv

import pytest

from tests.nas.service.pages.chromium import Chromium
from tests.nas.service.pages.in_browser.windows import LATENCY, open_settled
from tests.nas.service.pages.running import Server

pytestmark = pytest.mark.slow


def test_compared_fronts_are_drawn_with_their_common_front_and_downloaded(chromium: Chromium, made: Server) -> None:
    open_settled(chromium, f"{made.url}/compare?runs=plain-1&runs=limited-1")
    compared = made.service.results.compare(["plain-1", "limited-1"])
    n_points = "return document.getElementById('fronts').data.map((trace) => [trace.name, trace.x.length])"
    expected = [["common front", len(compared.common_front)], *([run.run, len(run.front)] for run in compared.runs)]
    assert chromium.run(n_points) == expected
    shares = "return document.getElementById('curves').data.map((trace) => [trace.name, Math.max(...trace.y)])"
    curves = dict(chromium.run(shares))
    assert set(curves) == {"plain-1", "limited-1"}
    assert max(curves.values()) == pytest.approx(100)
    largest = max(run.curve[-1][1] for run in compared.runs)
    assert [curves[run.run] for run in compared.runs] == pytest.approx(
        [100 * r.curve[-1][1] / largest for r in compared.runs]
    )
    assert [entry.text for entry in chromium.all("#curves-legend li")] == ["plain-1", "limited-1"]
    for kind in ("csv", "png"):
        chromium.click(f"[aria-label='Download compared-fronts as {kind.upper()}']")
        chromium.downloaded(f"compared-fronts.{kind}")
    rows = list(csv.DictReader((chromium.downloads / "compared-fronts.csv").read_text(encoding="utf-8").splitlines()))
    latencies = [float(list(row.values())[1]) for row in rows if row["series"] == "plain-1"]
    assert latencies == pytest.approx([network.figures[LATENCY].value for network in compared.runs[0].front])
    assert not chromium.complaints()
