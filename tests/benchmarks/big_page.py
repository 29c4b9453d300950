"""Loading time of the page of a run with 10,000 evaluations in a browser.

Run: ``python -m tests.benchmarks.big_page [--evaluations 10000]``; needs Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from nas.engine.store.folder import RunsFolder
from tests.benchmarks.big_run import _METRICS, ElasticValues, fill
from tests.benchmarks.engine_time import elastic_space
from tests.benchmarks.serving import serving
from tests.nas.service.pages.chromium import Chromium, running_chromium

METHOD = """\
A finished search of random candidates in a space of 45 genes, with two objectives; its page is opened from `nas serve` on this
machine. Milliseconds by the browser's clock, from the start of the navigation until a frame has the chart and the selected
network (`shown`): the first time (the server has just started and has read no run, the browser has cached no file of the
pages; another window of the server is open), then three times again. `answered` is the page's first byte, `whole` its last
byte, and `networks` the end of the loading of the networks."""
_AGAIN = 3
_NOTES = """\
new MutationObserver((_, observer) => {
  if (document.getElementById("chosen")?.hidden !== false || !document.querySelector("#front-chart svg")) return;
  observer.disconnect();
  requestAnimationFrame(() => { window.shownAt = performance.now(); });
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["hidden"] });"""
_TIMES = """\
const page = performance.getEntriesByType("navigation")[0];
const networks = performance.getEntriesByType("resource").find((found) => found.name.endsWith("networks.json"));
return [window.shownAt, page.responseStart, page.responseEnd, networks.responseEnd];"""
_COLUMNS = ("shown", "answered", "whole", "networks")


def main() -> None:
    """Fills a run, opens its page repeatedly, and prints the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluations", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=5, help="servers and browsers to start")
    parser.add_argument("--json", action="store_true", help="print one object in place of the table")
    given = parser.parse_args()
    if not given.json:
        print(METHOD, end="\n\n")
    found: dict[str, list[list[float]]] = {"first": [], "again": []}
    with tempfile.TemporaryDirectory(dir=".") as temporary:
        folder = Path(temporary)
        runs, space = RunsFolder(folder / "runs"), elastic_space()
        runs.check_writable()
        run = fill(runs, space, _METRICS[:2], ElasticValues(space), given.evaluations, algorithm="random", report=False)
        for _ in range(given.times):
            with serving(runs) as (_, url, _), running_chromium(folder) as chromium:
                chromium.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _NOTES})
                chromium.open(f"{url}/api/v1/health")
                for name in ["first", *["again"] * _AGAIN]:
                    found[name].append(_opened(chromium, f"{url}/runs/{run}"))
    if given.json:
        print(
            json.dumps({name: [dict(zip(_COLUMNS, row, strict=True)) for row in rows] for name, rows in found.items()})
        )
        return
    print("| ms, median (least to most) |", " | ".join(_COLUMNS), "|\n|---|---|---|---|---|")
    for name, rows in found.items():
        spans = [f"{np.median(c):.0f} ({min(c):.0f} to {max(c):.0f})" for c in zip(*rows, strict=True)]
        print(f"| {name} | {' | '.join(spans)} |")


def _opened(chromium: Chromium, url: str) -> list[float]:
    """Opens a page; milliseconds by column."""
    chromium.open(url)
    chromium.until(lambda: chromium.run("return window.shownAt !== undefined"))
    return list(map(float, chromium.run(_TIMES)))


if __name__ == "__main__":
    main()
