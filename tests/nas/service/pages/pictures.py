"""Takes the pictures of a run's page in the README, of a run made by `make demo`.

Run: ``python -m tests.nas.service.pages.pictures runs digits-cnn-1 0.0225``; needs Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from base64 import b64decode
from pathlib import Path

from nas.engine.store.folder import RunsFolder
from tests.nas.service.pages.chromium import Chromium, Theme, running_chromium
from tests.nas.service.pages.running import running_server

FOLDER = Path(__file__).parent / "pictures"
_HEIGHT = 1030


def main() -> None:
    """Takes ``run.png``, and ``phone.png`` from the chart on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("run", help="a finished search")
    parser.add_argument("limit", help="of latency, in milliseconds")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        runs = RunsFolder(Path(temporary) / "runs")
        shutil.copytree(given.runs / given.run, runs.root / given.run)
        with running_server(runs) as server, running_chromium(Path(temporary)) as chromium:
            url = f"{server.url}/runs/{given.run}"
            take(chromium, url, "run", given.limit, width=1180, theme="light", above="header")
            take(chromium, url, "phone", given.limit, width=390, theme="dark", above="#front-title")


def take(chromium: Chromium, url: str, name: str, limit: str, *, width: int, theme: Theme, above: str) -> None:
    """Takes a picture of a run's page with a limit, from the upper edge of an element on."""
    chromium.look(width=width, theme=theme)
    chromium.open(url)
    chromium.until(lambda: chromium.run("return !document.getElementById('chosen').hidden"))
    chromium.run(
        "const n = document.getElementById('limit-number'); n.value = arguments[0]; n.dispatchEvent(new Event('input'));",
        limit,
    )
    top = chromium.run("return document.querySelector(arguments[0]).getBoundingClientRect().top + scrollY", above)
    clip = {"x": 0, "y": max(0, top - 16), "width": width, "height": _HEIGHT, "scale": 1}
    shot = chromium.driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    (FOLDER / f"{name}.png").write_bytes(b64decode(shot["data"]))


if __name__ == "__main__":
    main()
