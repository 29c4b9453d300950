"""A browser, a server of finished runs that all tests of these pages share, and servers of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from tests.nas.results.export.runs import BOARD, FOUR, TWO, example_run
from tests.nas.service.made_runs import searched, trained
from tests.nas.service.pages.chromium import Chromium, running_chromium
from tests.nas.service.pages.in_browser.windows import LATENCY
from tests.nas.service.pages.running import Server, running_server

LIMITED = {LATENCY: (None, 0.5), "macs": (None, 3e7)}


@pytest.fixture(scope="package")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of finished runs, which tests only read."""
    runs = RunsFolder(tmp_path_factory.mktemp("made") / "runs")
    runs.check_writable()
    trained(runs)
    searched(runs, name="plain")
    searched(runs, name="limited", limits=LIMITED)
    searched(runs, name="impossible", limits={LATENCY: (None, 0.01)})
    searched(runs, name="four", names=FOUR, n=80)
    searched(runs, name="two", names=[*TWO, f"latency_ms@{BOARD}"])
    # Some are measured again, and the search is not finished: values of both protocols are chosen from.
    folder = runs.create("mixed", "name: mixed\n")
    store = open_store(folder, create=True, driver=True)
    example_run(n=60, n_final=25, store=store)
    store.update_state(finalists=())
    store.close()
    with running_server(runs) as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of a test's own."""
    with running_server(RunsFolder(tmp_path / "runs")) as server:
        yield server


@pytest.fixture(scope="package")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with running_chromium(tmp_path_factory.mktemp("downloads")) as browser:
        yield browser


@pytest.fixture(autouse=True)
def usual_look(chromium: Chromium) -> None:
    chromium.look()
