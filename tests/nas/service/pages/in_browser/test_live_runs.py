"""Pages of runs that change: live values, first results, lost streams, and exports."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.engine.store.sql import SqlStore
from nas.search.problem.budget import Budget
from nas.service.state import TaskStatus
from tests.contracts.run_facts import training_facts
from tests.nas.results.export.runs import SPACE, example_run, measure
from tests.nas.service.made_runs import searched
from tests.nas.service.pages.chromium import Chromium
from tests.nas.service.pages.in_browser.windows import chosen, open_run, set_limit
from tests.nas.service.pages.running import Server, running_server

pytestmark = pytest.mark.slow


def test_a_training_whose_epochs_are_not_recorded_shows_no_empty_axes(chromium: Chromium, made: Server) -> None:
    chromium.open(f"{made.url}/runs/supernet-1")
    chromium.until(lambda: not chromium.find("#training-title").is_displayed())
    assert not chromium.all(".chart svg")
    assert not chromium.complaints()


def waiting_run(runs: RunsFolder) -> SqlStore:
    """A run that this process drives, and that has measured nothing."""
    runs.check_writable()
    store = open_store(runs.create("early", "name: early\n"), create=True, driver=True)
    store.set_status(RunStatus.RUNNING)
    return store


def test_a_run_is_followed_while_it_is_live(chromium: Chromium, server: Server) -> None:
    folder = searched(server.runs, name="going", n=20, final=False)
    store = open_store(folder, driver=True)  # this process is its driver
    store.set_status(RunStatus.RUNNING)
    store.update_state(budget=Budget(30))
    open_run(chromium, server, "going-1")
    assert chromium.text("#head .badge") == "running"
    assert chromium.text("#head .progress-text") == "20 of 30 evaluations"
    chromium.run("window.same = true")
    known = {p.key for p in server.service.results.report("going-1").evaluated}
    rng = np.random.default_rng(5)
    new = next(a for a in (SPACE.sample(rng) for _ in range(100)) if a.key not in known)
    objectives = server.service.results.report("going-1").objectives
    store.record_ask(len(store.asks()), [new])
    measure(store, new, objectives)
    chromium.until(lambda: chromium.text("#head .progress-text") == "21 of 30 evaluations")
    store.set_status(RunStatus.FINISHED, reason="enough is enough")
    store.close()
    chromium.until(lambda: chromium.text("#head .badge") == "finished")
    assert "enough is enough" in chromium.text("#head .reason")
    keys = "return document.getElementById('front-chart').data.reduce((n, t) => n + t.x.length, 0)"
    expected = len(server.service.results.report("going-1").candidates) + len(
        server.service.results.report("going-1").predicted
    )
    chromium.until(lambda: chromium.run(keys) >= expected)
    assert chromium.run("return window.same")  # the page was not reloaded
    assert not chromium.complaints()


def test_a_training_is_followed_by_its_curves_and_the_time_left(chromium: Chromium, server: Server) -> None:
    store = waiting_run(server.runs)
    store.describe(training_facts(name="early", epochs=4))
    chromium.open(f"{server.url}/runs/early-1")
    assert not chromium.all("#training-loss")
    curves = "return (document.getElementById('training-accuracy')?.data ?? []).map(t => [t.name, t.y.map(Math.round)])"
    for n in (1, 2, 3):
        scores = {"largest": 0.2 * n, "smallest": 0.1 * n, "largest_loss": 2.0 / n, "smallest_loss": None}
        store.record_event("epoch", {"epoch": n, "loss": 3.0 / n, "seconds": 1.0, **scores})
        store.update_state(epoch=n, step=10 * n, steps=40, expected_end=time.time() + 600 - 60 * n)
        wanted = [["largest network", [20, 40, 60][:n]], ["smallest network", [10, 20, 30][:n]]]
        chromium.until(lambda w=wanted: chromium.run(curves) == w)
        chromium.until(lambda: chromium.text("#left"))
        assert 9 - n < float(chromium.text("#left").split()[1]) <= 10 - n
        assert float(chromium.run("return document.querySelector('#head progress').value")) == 0.25 * n
    losses = chromium.run("return document.getElementById('training-loss').data.map(t => t.name)")
    assert losses == ["largest network, validation", "training"]  # those that were recorded
    store.set_status(RunStatus.FINISHED)
    store.close()
    chromium.until(lambda: chromium.text("#head .badge") == "finished")
    assert not chromium.text("#events")  # epochs are no warnings
    assert not chromium.complaints()


def test_a_run_is_followed_where_its_stream_is_refused(chromium: Chromium, tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path / "runs")
    store = waiting_run(runs)
    with running_server(runs, watchers=0) as server:
        chromium.open(f"{server.url}/runs/early-1")
        assert chromium.text("#head .badge") == "running"
        store.set_status(RunStatus.FAILED, reason="it broke")
        chromium.until(lambda: chromium.text("#head .badge") == "failed")
    store.close()


def test_a_run_is_followed_past_a_restart_of_the_server(chromium: Chromium, tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path / "runs")
    store = waiting_run(runs)
    with running_server(runs) as server:
        chromium.open(f"{server.url}/runs/early-1")
        assert chromium.text("#head .badge") == "running"
        chromium.run("window.same = true")
    store.set_status(RunStatus.FAILED, reason="it broke")
    with running_server(runs, port=urlsplit(server.url).port or 0):
        chromium.until(lambda: chromium.text("#head .badge") == "failed")
        assert chromium.run("return window.same")
    store.close()


def test_a_run_gets_its_charts_with_its_first_results(chromium: Chromium, server: Server) -> None:
    folder = server.runs.create("early", "name: early\n")
    store = open_store(folder, create=True, driver=True)
    store.set_status(RunStatus.RUNNING)
    chromium.open(f"{server.url}/runs/early-1")
    assert chromium.text("#front-later")
    example_run(n=12, final=False, store=store)
    chromium.until(lambda: chosen(chromium))
    store.set_status(RunStatus.FINISHED)
    store.close()


def test_an_export_is_requested_and_followed_until_its_files_can_be_downloaded(
    chromium: Chromium, server: Server
) -> None:
    folder = searched(server.runs, name="plain")
    open_run(chromium, server, "plain-1")
    set_limit(chromium, 0.5)
    key = chosen(chromium)
    chromium.find("#export-preprocessing").click()
    chromium.find("#export").click()
    chromium.until(lambda: chromium.text("#exports .badge") == "queued")
    [export] = server.service.exports.list("plain-1")
    assert (export.request.select, export.request.with_preprocessing) == (f"key={key}", True)
    # What the task's process would do.
    for name, content in (("model.onnx", b"graph"), ("model.json", b"{}")):
        (folder.path / "exports" / export.export / name).write_bytes(content)
    server.state.change_task(export.export, TaskStatus.RUNNING)
    chromium.until(lambda: chromium.text("#exports .badge") == "running")
    server.state.change_task(export.export, TaskStatus.FINISHED, result={"key": key})
    chromium.until(lambda: chromium.text("#exports .badge") == "finished")
    links = {e.text: e.get_attribute("href") for e in chromium.all("#exports li li a")}
    assert list(links) == ["model.json", "model.onnx", "all files (.zip)"]
    got = chromium.driver.execute_async_script(
        "fetch(arguments[0]).then(a => a.text()).then(arguments[1])", links["model.onnx"]
    )
    assert got == "graph"
    assert not chromium.complaints()
