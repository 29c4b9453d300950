"""A search with this machine and a real browser as profiles of one job, whose page is reloaded, closed and hidden."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hardware_profiles.errors import ProfileError
from hardware_profiles.transports.browser import connection
from hardware_profiles.transports.browser.runtime_files import install, installed_folder
from hardware_profiles.transports.browser.server import running_server
from nas.engine.progress import ProgressObserver
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import load_job
from nas.runs.driver import run as search
from nas.search.problem.objectives import Status
from tests.nas.commands import SMALL_JOB
from tests.nas.service.pages.chromium import Chromium, running_chromium
from tests.nas.short_rounds import take_short_rounds

pytestmark = pytest.mark.slow

_JOB = (
    SMALL_JOB.replace("[cpu-1-thread]", "[cpu-1-thread, ./tab.yaml]")
    .replace("guided, evaluations: 30, batch: 7", "random, evaluations: 12, batch: 3")
    .replace("epochs: 4", "epochs: 1")
    .replace("[accuracy, latency_ms]", "[accuracy, latency_ms@cpu-1-thread, latency_ms@tab]")
)
_N_DISTURBANCES, _PAUSE_S = 8, (0.1, 1.5)


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    try:
        installed_folder()
    except ProfileError:
        try:
            install()
        except ProfileError as error:
            pytest.skip(str(error))
    with running_chromium(tmp_path) as browser:
        yield browser


class Waits(ProgressObserver):
    """Keeps the waits that a driver reports."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def waiting(self, text: str) -> None:
        self.texts.append(text)


def _disturb(browser: Chromium, stopped: Callable[[], bool], rng: random.Random) -> None:
    """Reloads, closes and hides the page at random moments; the last state is an open page."""
    for _ in range(_N_DISTURBANCES):
        time.sleep(rng.uniform(*_PAUSE_S))
        if stopped():
            return
        match rng.choice(("reload", "leave", "hide")):
            case "reload":
                browser.driver.refresh()
            case "leave":
                browser.driver.get("about:blank")
                time.sleep(rng.uniform(*_PAUSE_S))
                browser.driver.get(running_server().address)
            case "hide":
                page = browser.driver.current_window_handle
                browser.driver.switch_to.new_window("tab")
                time.sleep(rng.uniform(*_PAUSE_S))
                browser.driver.close()
                browser.driver.switch_to.window(page)


def test_a_search_in_a_browser_loses_nothing_while_its_page_is_reloaded_closed_and_hidden(
    chromium: Chromium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    take_short_rounds(monkeypatch)
    Path("tab.yaml").write_text("name: tab\nbrowser: true\n")
    Path("job.yaml").write_text(_JOB)
    waits, finished, refused = Waits(), threading.Event(), list[str]()

    def visit(text: str) -> None:
        address = text.split("open ")[1].split()[0]

        def work() -> None:
            chromium.driver.get(address)
            chromium.until(lambda: chromium.text("#state") in ("Ready.", "Measures."))
            with running_chromium(tmp_path) as other:  # the code was used
                other.driver.get(address)
                other.until(lambda: "refused" in other.text("#state"))
                refused.append(other.text("#detail"))
            _disturb(chromium, finished.is_set, random.Random(4))

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    threads: list[threading.Thread] = []
    monkeypatch.setattr(connection, "_print", visit)
    try:
        done = search(load_job("job.yaml"), RunOptions(RunsFolder(tmp_path / "runs"), observer=waits))
    finally:
        finished.set()
        for thread in threads:
            thread.join()
    assert refused == ["the code was used, is older than ten minutes, or is wrong"]
    assert any("waits for tab since" in text for text in waits.texts)
    with done.store() as store:
        assert store.status() is RunStatus.FINISHED
        timed: list[Any] = [m for m in store.measurements() if m.request.metric == "latency_ms"]
    assert all(m.status in (Status.OK, Status.NOISY) and m.value > 0 for m in timed)
    in_tab = [m for m in timed if m.environment["profile"] == "tab"]
    assert len({m.request.architecture for m in in_tab}) == 12 == len({m.request.architecture for m in timed})
    assert len({m.environment["device"] for m in in_tab}) == 1  # no other browser took its place
