"""Takes the pictures of a run's page in the README, of an example run with made-up values.

Run: ``python -m tests.nas.service.pages.pictures``; needs Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import itertools
import tempfile
from base64 import b64decode
from pathlib import Path

from nas.store.base import RunStatus
from nas.store.folder import RunsFolder
from nas.store.sql import SqlStore
from tests.nas.commands import SMALL_JOB
from tests.nas.export.runs import example_run
from tests.nas.service.pages.chromium import Chromium, Theme, running_chromium
from tests.nas.service.pages.running import running_server

FOLDER = Path(__file__).parent / "pictures"
_HEIGHT = 960
_START = 1_795_600_000.0
"""Of the run, in seconds since the epoch."""


def main() -> None:
    """Takes ``run.png``, and ``phone.png`` from the chart on."""
    with tempfile.TemporaryDirectory() as temporary:
        runs = RunsFolder(Path(temporary) / "runs")
        runs.check_writable()
        clock = itertools.count(_START, 0.5)
        folder = runs.create("digits-cnn", SMALL_JOB)
        store = SqlStore.open(folder.database, create=True, driver=True, clock=lambda: next(clock))
        store.set_status(RunStatus.RUNNING)
        example_run(n=60, store=store)
        store.close()
        with running_server(runs) as server, running_chromium(Path(temporary)) as chromium:
            url = f"{server.url}/runs/{folder.id}"
            take(chromium, url, "run", width=1180, theme="light", above="header")
            take(chromium, url, "phone", width=390, theme="dark", above="#front-title")


def take(chromium: Chromium, url: str, name: str, *, width: int, theme: Theme, above: str) -> None:
    """Takes a picture of a run's page with a limit, from the upper edge of an element on."""
    chromium.look(width=width, theme=theme)
    chromium.open(url)
    chromium.until(lambda: chromium.run("return !document.getElementById('chosen').hidden"))
    chromium.run(
        "const n = document.getElementById('limit-number'); n.value = '0.4'; n.dispatchEvent(new Event('input'));"
    )
    top = chromium.run("return document.querySelector(arguments[0]).getBoundingClientRect().top + scrollY", above)
    clip = {"x": 0, "y": max(0, top - 16), "width": width, "height": _HEIGHT, "scale": 1}
    shot = chromium.driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    (FOLDER / f"{name}.png").write_bytes(b64decode(shot["data"]))


if __name__ == "__main__":
    main()
