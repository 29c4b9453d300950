"""Loading time of the page of a run with 10,000 evaluations in a browser.

    python -m tests.benchmarks.big_page [--evaluations 10000] [--times 5]

Needs Debian's chromium and chromium-driver.

Method. A finished search of random candidates in a space of 45 genes, with two objectives; its page is opened from `nas serve`
on this machine. Milliseconds by the browser's clock, from the start of the navigation until a frame has the chart and the
selected network (`shown`): the first time (the server has just started and has read no run, the browser has cached no file of
the pages; another window of the server is open), then three times again. `answered` is the page's first byte, `whole` its last
byte, and `networks` the end of the loading of the networks.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from nas.engine.store.folder import RunsFolder
from tests.benchmarks.big_run import fill
from tests.benchmarks.markdown import table_head, table_row
from tests.benchmarks.serving import serving
from tests.nas.service.pages.chromium import Chromium, running_chromium

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


def main(
    evaluations: int = 10_000,
    times: Annotated[int, typer.Option(help="servers and browsers to start")] = 5,
) -> None:
    """Fills a run, opens its page repeatedly, and prints the times."""
    print(__doc__)
    times_ms: dict[str, list[list[float]]] = {"first": [], "again": []}
    with tempfile.TemporaryDirectory(dir=".") as temporary:
        folder = Path(temporary)
        runs = RunsFolder(folder / "runs")
        runs.check_writable()
        run = fill(runs, evaluations)
        for _ in range(times):
            with serving(runs) as (_, url, _), running_chromium(folder) as chromium:
                chromium.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _NOTES})
                chromium.open(f"{url}/api/v1/health")
                for name in ["first", *["again"] * _AGAIN]:
                    times_ms[name].append(_opened(chromium, f"{url}/runs/{run}"))
    print(table_head("ms, median (least to most)", *_COLUMNS))
    for name, rows in times_ms.items():
        print(table_row(name, *(f"{np.median(c):.0f} ({min(c):.0f} to {max(c):.0f})" for c in zip(*rows, strict=True))))


def _opened(chromium: Chromium, url: str) -> list[float]:
    """Opens a page; milliseconds by column."""
    chromium.open(url)
    chromium.until(lambda: chromium.run("return window.shownAt !== undefined"))
    return list(map(float, chromium.run(_TIMES)))


if __name__ == "__main__":
    typer.run(main)
