"""A run of 10,000 evaluations in a browser: how long from its address to its chart.

Run: ``python -m tests.benchmarks.big_page [--evaluations 10000]``; needs Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from nas.store.folder import RunsFolder
from tests.benchmarks.big_run import _METRICS, Figures, fill
from tests.benchmarks.engine_time import elastic_space
from tests.nas.service.pages.chromium import running_chromium
from tests.nas.service.pages.running import running_server

METHOD = """\
A finished search of so many random candidates of a space of 45 genes, with two objectives; its page is opened from a server
on this machine. Milliseconds until the chart and the chosen network are shown: the first time (the server reads the run, the
browser has no file of the pages), then five times as one comes back to it. `scripts` is the browser's share: from the
networks' arrival."""
_AGAIN = 5
_SHOWN = "return !document.getElementById('chosen').hidden && document.querySelector('#front-chart svg') !== null"
_ARRIVAL = """\
const networks = performance.getEntriesByType("resource").find((found) => found.name.endsWith("networks.json"));
return performance.now() - networks.responseEnd;"""


def main() -> None:
    """Fills a run, opens its page again and again, and prints the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluations", type=int, default=10_000)
    given = parser.parse_args()
    print(METHOD, end="\n\n")
    with tempfile.TemporaryDirectory(dir=".") as temporary:
        folder = Path(temporary)
        runs, space = RunsFolder(folder / "runs"), elastic_space()
        run = fill(runs, space, _METRICS[:2], Figures(space), given.evaluations, algorithm="random")
        with running_server(runs) as server, running_chromium(folder) as chromium:
            print("| | ms | scripts, ms |\n|---|---|---|")
            for name in ["first", *["again"] * _AGAIN]:
                start = time.perf_counter()
                chromium.open(f"{server.url}/runs/{run}")
                chromium.until(lambda: chromium.run(_SHOWN))
                shown = 1000 * (time.perf_counter() - start)
                print(f"| {name} | {shown:.0f} | {chromium.run(_ARRIVAL):.0f} |", flush=True)


if __name__ == "__main__":
    main()
