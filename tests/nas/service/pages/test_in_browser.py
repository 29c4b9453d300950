"""The pages in a real browser, against a real server: what scripts choose, request and keep up to date."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from nas.analysis.formatting import format_value, title_of
from nas.analysis.insight import insight_json
from nas.analysis.report import RunReport
from nas.api.schemas import RunLabels
from nas.engine.run import Run
from nas.errors import SelectionError
from nas.problem.budget import Budget
from nas.recipes import read_recipe
from nas.service.state import TaskStatus, Wanted
from nas.store.base import RunStatus
from nas.store.folder import RunsFolder
from nas.store.opening import open_store
from nas.store.sql import SqlStore
from supernets.space import Choice, SearchSpace
from tests.nas.export.runs import BOARD, FOUR, PROFILE, SPACE, TWO, example_run, measure
from tests.nas.service.made_runs import searched, trained
from tests.nas.service.pages import axe
from tests.nas.service.pages.chromium import Chromium, Theme, running_chromium
from tests.nas.service.pages.running import Server, running_server
from tests.nas.store.descriptions import search_facts, training_facts

pytestmark = pytest.mark.slow

LATENCY = f"latency_ms@{PROFILE}"
LIMITED = {LATENCY: (None, 0.5), "macs": (None, 3e7)}


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with running_chromium(tmp_path_factory.mktemp("downloads")) as browser:
        yield browser


@pytest.fixture(autouse=True)
def usual_look(chromium: Chromium) -> None:
    chromium.look()


def chosen(chromium: Chromium) -> str:
    """The key of the chosen network; "" for none."""
    return chromium.text("#chosen-key")


def open_run(chromium: Chromium, server: Server, run: str) -> None:
    """Opens a run's page and waits until its charts are there."""
    chromium.open(f"{server.url}/runs/{run}")
    chromium.until(lambda: chromium.run("return !document.getElementById('chosen').hidden"))


def set_limit(chromium: Chromium, bound: float) -> None:
    """Types a limit, as far as scripts can tell."""
    chromium.run(
        "const n = document.getElementById('limit-number'); n.value = arguments[0]; n.dispatchEvent(new Event('input'));",
        repr(bound),
    )


def picked(server: Server, run: str, select: str) -> str:
    try:
        return server.service.results.pick(run, select).key
    except SelectionError:
        return ""


def bounds_around(report: RunReport, name: str) -> list[float]:
    """Limits on each side of some values, and beyond all."""
    values = sorted(p.values[name] for p in report.candidates)
    some = [values[i] for i in np.linspace(0, len(values) - 1, 20).astype(int)]
    return [0.5 * values[0], *(v * f for v in some for f in (1 - 1e-9, 1, 1.003)), 2 * values[-1]]


@pytest.mark.parametrize("run", ["plain-1", "limited-1", "four-1", "mixed-1"])
def test_the_limit_chooses_what_the_service_picks(chromium: Chromium, made: Server, run: str) -> None:
    open_run(chromium, made, run)
    report = made.service.results.report(run)
    rest = [f" and {c.metric.name}<={c.maximum}" for c in report.constraints if c.metric.name != LATENCY]
    found = set()
    for bound in bounds_around(report, LATENCY):
        set_limit(chromium, bound)
        expected = picked(made, run, f"{LATENCY}<={bound!r}{''.join(rest)}")
        assert chosen(chromium) == expected, bound
        found.add(expected)
    assert len(found) > 5
    assert not chromium.complaints()


def test_a_limit_on_every_profile_is_kept_on_each(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "two-1")
    assert chromium.text("#axis option:checked") == "Latency (ms), every profile"
    found = set()
    for bound in bounds_around(made.service.results.report("two-1"), f"latency_ms@{BOARD}"):
        set_limit(chromium, bound)
        expected = picked(made, "two-1", f"{LATENCY}<={bound!r} and latency_ms@{BOARD}<={bound!r}")
        assert chosen(chromium) == expected
        found.add(expected)
    assert len(found) > 5


def test_the_slider_moves_the_limit_by_keyboard(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "plain-1")
    first = chosen(chromium)
    slider = chromium.find("#limit-range")
    found = []
    for _ in range(15):
        slider.send_keys(*[Keys.ARROW_LEFT] * 25)
        bound = float(str(chromium.find("#limit-number").get_property("value")))
        assert chosen(chromium) == picked(made, "plain-1", f"{LATENCY}<={bound}")
        assert slider.get_attribute("aria-valuetext") == f"at most {bound:.6g} ms"
        found.append(chosen(chromium))
    assert first != found[0] or len(set(found)) > 1
    slider.send_keys(Keys.END)
    assert chosen(chromium) == first
    # Screen readers announce the choice once the limit rests.
    chromium.until(lambda: chromium.text("#chosen-text").startswith("Chosen with Latency (ms), cpu-1-thread at most"))


def test_the_line_moves_the_limit_by_dragging(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "plain-1")
    line = chromium.find("#limit-line")
    before = float(str(chromium.find("#limit-number").get_property("value")))
    found = set()
    for _ in range(4):
        drag = ActionChains(chromium.driver).move_to_element(line).click_and_hold()
        drag.move_by_offset(-30, 4).move_by_offset(-40, 4).release().perform()
        bound = float(str(chromium.find("#limit-number").get_property("value")))
        assert bound < before
        before = bound
        assert chosen(chromium) == picked(made, "plain-1", f"{LATENCY}<={bound}")
        found.add(chosen(chromium))
    assert len(found) > 1
    # The line is at its value: the chosen network's ring lies on its allowed side, or on it.
    middle = line.rect["x"] + line.rect["width"] / 2
    ring = chromium.find(".ring")
    assert ring.rect["x"] + ring.rect["width"] / 2 <= middle + 1


def test_the_network_below_the_pointer_is_described(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "plain-1")
    ActionChains(chromium.driver).move_to_element(chromium.find(".ring")).perform()
    tip = chromium.text(".tip")
    point = made.service.results.report("plain-1").front[-1]
    assert (
        tip.startswith("number 0 on the front")
        or f"number {len(made.service.results.report('plain-1').front) - 1} on" in tip
    )
    for metric in made.service.results.report("plain-1").columns:
        assert format_value(metric, point.values[metric.name], point.errors[metric.name]) in tip
    assert f"depth {point.described['depth']}" in tip


def test_a_click_on_a_point_or_a_row_selects_its_network(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "plain-1")
    report = made.service.results.report("plain-1")
    by_limit = chosen(chromium)
    point = report.front[len(report.front) // 2]
    chromium.click(f"#members tr[data-key='{point.key}'] td")
    assert (chosen(chromium), chromium.text("#chosen-title")) == (point.key, "Selected network")
    assert chromium.all("#members tr.is-chosen")[0].get_attribute("data-key") == point.key
    for metric in report.columns:
        value = format_value(metric, point.values[metric.name], point.errors[metric.name])
        assert value in chromium.text("#chosen-values")
    # The address names it: the page can be shared.
    chromium.open(chromium.driver.current_url)
    chromium.until(lambda: chosen(chromium) == point.key)
    chromium.click("#unselect")
    assert (chosen(chromium), chromium.text("#chosen-title")) == (by_limit, "Most accurate within the limit")
    # A network off the front, by its place in the chart.
    measured = set(report.candidates.keys) - {p.key for p in report.front}
    x, y = chromium.run(
        "const c = document.getElementById('front-chart'); c.scrollIntoView();"
        "const t = c.data.find(t => t.mode === 'markers' && !t.error_x);"
        "const {l, t: top} = c.layout.margin; const {x, y} = c.getBoundingClientRect();"
        "return [x + l + c._fullLayout.xaxis.d2p(t.x[0]), y + top + c._fullLayout.yaxis.d2p(t.y[0])]"
    )
    chromium.click_at(x, y)
    chromium.until(lambda: chosen(chromium) in measured)
    set_limit(chromium, 0.5)  # moving the limit lets it choose again
    assert chosen(chromium) == picked(made, "plain-1", f"{LATENCY}<=0.5")
    assert not chromium.complaints()


def test_measured_and_predicted_differ_in_shape_and_name(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "plain-1")
    names = {e.text: e for e in chromium.all("#legend li")}
    assert {"front, measured (± error)", "measured", "predicted, not measured"} <= set(names)
    shapes = chromium.run(
        "return document.getElementById('front-chart').data.map(t => [t.marker.symbol, t.mode, t.x.length])"
    )
    assert ["diamond-open", "markers", len(made.service.results.report("plain-1").predicted)] in shapes
    assert [mode for symbol, mode, _ in shapes if symbol == "diamond-open"] == ["markers", "lines+markers"]  # the best


def test_the_chosen_network_is_drawn_beside_the_largest(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "plain-1")
    set_limit(chromium, 0.5)
    point = next(p for p in made.service.results.report("plain-1").candidates if p.key == chosen(chromium))
    text = chromium.find("#architecture svg").get_attribute("aria-label") or ""
    largest = SPACE.values(SPACE.largest)
    for name, value in point.described.items():
        short = name.rpartition(".")[2]
        of = "" if value == largest[name] or short == "kernel" else f" of {largest[name]}"
        assert f"{short} {value}{of}" in text
    n_left_out = len(largest) - len(point.described)
    assert text.count("left out") == n_left_out
    assert len(chromium.all("#architecture rect.own")) == 1 + 3 + (2 - n_left_out)


def test_charts_are_downloaded_as_pictures_and_tables(chromium: Chromium, made: Server) -> None:
    open_settled(chromium, f"{made.url}/runs/plain-1")
    report = made.service.results.report("plain-1")
    paths = []
    for button in chromium.all(".downloads button"):
        name, kind = str(button.get_attribute("aria-label")).split()[1::2]
        paths.append(chromium.downloads / f"{name}.{kind.lower()}")
        button.click()
        chromium.until(paths[-1].is_file)
        time.sleep(0.15)  # as a user at the fastest: Chromium drops the eleventh download of a second without a word
    assert {path.stem for path in paths} >= {"plain-1-front", "plain-1-convergence", "plain-1-predictors"}
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 20
        elif path.suffix == ".svg":
            texts = "".join(ElementTree.parse(path).getroot().itertext())
            assert "plain-1: " in texts or path.stem.endswith("architecture")
    rows = list(csv.DictReader((chromium.downloads / "plain-1-front.csv").read_text(encoding="utf-8").splitlines()))
    front = [[float(value) for value in list(row.values())[1:]] for row in rows if row["series"].startswith("front")]
    for found, point in zip(front, report.front, strict=True):
        latency, share = point.values[LATENCY], point.values["accuracy"]
        expected = [latency, 100 * share, point.errors[LATENCY], 100 * point.errors["accuracy"]]
        assert found == pytest.approx(expected)
    assert not chromium.complaints()


def test_compared_fronts_are_drawn_with_their_common_front_and_downloaded(chromium: Chromium, made: Server) -> None:
    open_settled(chromium, f"{made.url}/compare?runs=plain-1&runs=limited-1")
    compared = made.service.results.compare(["plain-1", "limited-1"])
    n_points = "return document.getElementById('fronts').data.map((trace) => [trace.name, trace.x.length])"
    expected = [["common front", len(compared.common_front)], *([run.run, len(run.front)] for run in compared.runs)]
    assert chromium.run(n_points) == expected
    for kind in ("csv", "png"):
        chromium.click(f"[aria-label='Download compared-fronts as {kind.upper()}']")
        chromium.until((chromium.downloads / f"compared-fronts.{kind}").is_file)
    rows = list(csv.DictReader((chromium.downloads / "compared-fronts.csv").read_text(encoding="utf-8").splitlines()))
    latencies = [float(list(row.values())[1]) for row in rows if row["series"] == "plain-1"]
    assert latencies == pytest.approx([network.figures[LATENCY].value for network in compared.runs[0].front])
    assert not chromium.complaints()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_network_of_45_blocks_is_drawn_within_the_page(chromium: Chromium, server: Server, width: int) -> None:
    depths = [Choice(f"stage{s}.depth", tuple(range(2, 10))) for s in range(5)]
    kernels = [
        Choice(f"stage{s}.block{b}.kernel", (3, 5), None if b < 2 else (f"stage{s}.depth", b - 1))
        for s in range(5)
        for b in range(9)
    ]
    space = SearchSpace([*depths, *kernels])
    store = open_store(server.runs.create("deep", "name: deep\n"), create=True, driver=True)
    store.describe(search_facts(space, TWO, profiles=[PROFILE], name="deep"), budget=Budget(2))
    store.record_ask(0, [space.smallest, space.largest])
    for architecture in (space.smallest, space.largest):
        measure(store, architecture, store.search_facts().objectives)
    store.close()
    chromium.look(width=width)
    chromium.open(f"{server.url}/runs/deep-1?network={space.smallest.key}")
    chromium.until(lambda: chosen(chromium) == space.smallest.key)
    assert len(chromium.all("#architecture rect.own")) == 5 * 2
    assert len(chromium.all("#architecture rect.ghost")) == 45 - 5 * 2
    assert len(chromium.all("#architecture rect.fixed")) == 2  # stem and head
    right = "const s = document.querySelector('#architecture svg'), r = s.getBoundingClientRect();"
    right += "return [...s.querySelectorAll('rect')].every(e => e.getBoundingClientRect().right <= r.right + 1)"
    assert chromium.run(right)
    assert chromium.run("return document.documentElement.scrollWidth <= innerWidth")


def test_genes_are_shown_once_they_are_near(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "plain-1")
    importance = insight_json(Run.open(made.runs, "plain-1").report_and_insight()[1])["importance"]
    chromium.run("document.getElementById('genes-part').scrollIntoView()")
    pairs = "t => Object.fromEntries(t.y.map((gene, i) => [gene, t.x[i]]))"
    bars = f"return (document.getElementById('importance').data ?? []).map({pairs})"
    chromium.until(lambda: chromium.run(bars))
    expected = [
        {g: 100 * v for g, v in importance[name]["by_gene"].items()} for name in TWO if not importance[name]["refused"]
    ]
    assert expected
    for found, wanted in zip(chromium.run(bars), expected, strict=True):
        assert found == pytest.approx({gene: wanted.get(gene, 0.0) for gene in found})
        assert {gene for gene, share in wanted.items() if share > 0} <= set(found)
    # One line over the axes for each network of the front, and for the chosen one.
    lines = "return document.getElementById('coordinates').data.map(t => [t.name, t.x.filter(x => x === null).length])"
    chromium.until(lambda: dict(chromium.run(lines)).get("chosen") == 1)
    report = made.service.results.report("plain-1")
    assert dict(chromium.run(lines))["front"] == len(report.front)
    assert dict(chromium.run(lines))["measured"] == len(report.candidates) - len(report.front)
    assert not chromium.complaints()


def test_the_front_is_sorted_and_turned_by_keyboard(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "four-1")
    report = made.service.results.report("four-1")
    metric = report.columns[2]
    values = {p.key: p.values[metric.name] for p in report.front}
    rows = "return [...document.querySelectorAll('#members tbody tr')].map(r => r.dataset.key)"
    chromium.run("window.same = true")
    for order in ("ascending", "descending"):
        chromium.find("#members thead th:nth-child(4) a").send_keys(Keys.ENTER)
        chromium.until(lambda o=order: chromium.all(f"#members thead th:nth-child(4)[aria-sort={o}]"))
        expected = sorted(values.values(), reverse=order == "descending")
        shown = [values[key] for key in chromium.run(rows)]
        assert shown == expected[: len(shown)]
        assert chromium.run("return document.activeElement.textContent.trim()") == title_of(metric)  # the focus stays
    chromium.find("#members a[rel=next]").send_keys(Keys.ENTER)
    chromium.until(lambda: chromium.all("#members a[rel=prev]"))
    further = [values[key] for key in chromium.run(rows)]
    assert further == expected[len(shown) : len(shown) + len(further)]
    assert chromium.run("return window.same")  # the page, and what is chosen in it, stay
    assert not chromium.complaints()


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


def waiting_run(runs: RunsFolder) -> SqlStore:
    """A run that this process drives, and that has measured nothing."""
    runs.check_writable()
    store = open_store(runs.create("early", "name: early\n"), create=True, driver=True)
    store.set_status(RunStatus.RUNNING)
    return store


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


def test_runs_are_cancelled_resumed_and_deleted_by_buttons(chromium: Chromium, server: Server) -> None:
    searched(server.runs, name="plain")
    searched(server.runs, name="second")
    chromium.open(server.url)
    chromium.click("#resume-plain-1")
    field = chromium.find("#ask-resume input[name=evaluations]")
    field.send_keys("+10")
    chromium.find("#ask-resume button[value=yes]").click()
    chromium.until(lambda: chromium.all("#cancel-plain-1"))
    submission = server.state.submission("plain-1")
    assert submission is not None
    assert submission.options["evaluations"] == "+10"
    chromium.click("#cancel-plain-1")
    chromium.until(lambda: (server.state.submission("plain-1") or submission).wanted is Wanted.CANCELLED)
    chromium.click("#delete-second-1")
    assert chromium.text("#ask-delete [data-name]") == "second-1"
    chromium.find("#ask-delete button[value='']").click()
    assert [run.run for run in server.service.runs.page().runs] == ["second-1", "plain-1"]
    chromium.click("#delete-second-1")
    chromium.find("#ask-delete button[value=yes]").click()
    chromium.until(lambda: not chromium.all("#delete-second-1") and not chromium.all("dialog[open]"))
    assert [run.run for run in server.service.runs.page().runs] == ["plain-1"]
    assert not chromium.complaints()


def test_a_run_is_labelled_by_a_button(chromium: Chromium, server: Server) -> None:
    searched(server.runs, name="plain")
    server.service.submissions.label("plain-1", RunLabels(tags=("old",), note="first"))
    chromium.open(server.url)
    chromium.click("#label-plain-1")
    tags, note = chromium.find("#label-tags"), chromium.find("#label-note")
    assert (tags.get_property("value"), note.get_property("value")) == ("old", "first")
    tags.send_keys(", two words!")
    chromium.find("#ask-label button[value=yes]").click()
    chromium.until(lambda: "words!" in chromium.text("#ask-label [data-problem]"))
    tags.clear()
    tags.send_keys("paper, v2")
    chromium.find("#ask-label button[value=yes]").click()
    tags_now = "return [...document.querySelectorAll('.runs .tag')].map((tag) => tag.textContent)"
    chromium.until(lambda: chromium.run(tags_now) == ["paper", "v2"])
    assert server.service.runs.summary("plain-1").note == "first"


def write(chromium: Chromium, field: WebElement, text: str) -> None:
    """Puts a text into a field, as far as scripts can tell."""
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
    chromium.run(script, field, text)


def test_errors_of_a_job_are_shown_beside_the_field(chromium: Chromium, server: Server) -> None:
    chromium.open(f"{server.url}/submit")
    chromium.until(lambda: chromium.text("#job-state") == "This job can be submitted.")
    job = chromium.find("#job")
    text = str(job.get_property("value"))
    broken = text.replace("evaluations: 60 ", "evaluations: -6 ").replace("name: digits-cnn", "name: ../etc")
    chromium.run(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
        job,
        broken,
    )
    chromium.until(lambda: "error" in chromium.text("#job-state"))
    assert job.get_attribute("aria-invalid") == "true"
    fields = {e.text for e in chromium.all("#job-problems b")}
    line = 1 + broken[: broken.index("name: ../etc")].count("\n")
    assert f"name (line {line})" in fields
    chromium.find("#job-problems button").click()
    selected = chromium.run("const j = arguments[0]; return j.value.slice(j.selectionStart, j.selectionEnd)", job)
    assert selected.startswith("name: ../etc")
    chromium.find("#send").click()
    chromium.until(lambda: "was not submitted" in chromium.text("#problem"))
    assert not server.service.runs.page().runs
    chromium.run(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))", job, text
    )
    chromium.until(lambda: chromium.text("#job-state") == "This job can be submitted.")
    chromium.find("#hardware input[value=cpu-1-thread-batch-16]").click()
    chromium.find("#send").click()
    chromium.until(lambda: chromium.driver.current_url.endswith("/runs/digits-cnn-1"))
    assert chromium.text("#head .badge") == "queued"
    assert "cpu-1-thread-batch-16" in server.service.runs.detail("digits-cnn-1").job


def change(chromium: Chromium, selector: str, value: object) -> None:
    """Enters a value in a field and leaves it."""
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change', {bubbles: true}))"
    chromium.run(script, chromium.find(selector), value)


def test_fields_change_the_text_of_the_job_and_the_text_changes_the_fields(chromium: Chromium, server: Server) -> None:
    chromium.open(f"{server.url}/submit")
    chromium.until(lambda: chromium.find("#evaluations").get_property("value") == "60")
    text = str(chromium.find("#job").get_property("value"))
    change(chromium, "#evaluations", 90)
    change(chromium, "#epochs", 3)
    expected = text.replace("evaluations: 60 ", "evaluations: 90 ").replace("epochs: 30", "epochs: 3")
    chromium.until(lambda: chromium.find("#job").get_property("value") == expected)
    change(chromium, "[id='metric-latency_ms'] input[type=number]", 0.05)
    chromium.until(
        lambda: "constraints: {latency_ms: {max: 0.05}}\n" in str(chromium.find("#job").get_property("value"))
    )
    write(chromium, chromium.find("#job"), text.replace("evaluations: 60 ", "evaluations: 44 "))
    chromium.until(lambda: chromium.find("#evaluations").get_property("value") == "44")
    chromium.until(lambda: chromium.find("[id='metric-latency_ms'] input[type=number]").get_property("value") == "")
    assert not chromium.complaints()


def test_a_plan_is_shown_before_the_job_is_submitted(chromium: Chromium, server: Server) -> None:
    chromium.open(f"{server.url}/submit")
    chromium.find("#plan").click()
    chromium.until(lambda: chromium.text("#planned .badge") == "queued")
    [task] = server.state.open_tasks()
    ends = {
        name: {"parameters": 10**n, "latency_ms@cpu-1-thread": n} for n, name in enumerate(("smallest", "largest"), 2)
    }
    span = {"seconds": 120.0, "low": 100.0, "high": 7200.0, "origin": ""}
    result = {
        "space": {"size": 123456, "choices": 9}, **ends, "images": {"train": 1000}, "evaluations": 60, "epochs": 30,
        "time": {"total": span}, "warnings": ["one class has 3 images"],
    }  # fmt: skip
    server.state.change_task(task.task, TaskStatus.FINISHED, result=result)
    chromium.until(lambda: "123,456" in chromium.text("#planned"))
    text = chromium.text("#planned")
    for part in ("100 to 1,000", "2 min (1.7 min to 2 h)", "one class has 3 images", "2 to 3 ms"):
        assert part in text
    assert not chromium.complaints()
    write(chromium, chromium.find("#job"), "name: other")  # the plan is of another job now
    assert not chromium.find("#planned").is_displayed()


def test_another_recipe_takes_the_place_of_one_that_was_not_changed(chromium: Chromium, server: Server) -> None:
    chromium.open(f"{server.url}/submit")
    chromium.run(
        "const r = document.getElementById('recipe'); r.value = 'fashion-mnist-vit'; r.dispatchEvent(new Event('change'))"
    )
    expected = read_recipe("fashion-mnist-vit")
    chromium.until(lambda: chromium.find("#job").get_property("value") == expected)


PAGES = {
    "runs": "/", "run": "/runs/limited-1", "run of profiles": "/runs/two-1", "run of none": "/runs/impossible-1",
    "evaluations": "/runs/plain-1/evaluations?status=front", "training": "/runs/supernet-1",
    "compare": "/compare?runs=plain-1&runs=four-1", "submit": "/submit",
    "hardware": "/hardware", "profile": f"/hardware/{PROFILE}", "login": "/login?refused=1", "error": "/runs/none",
    "docs": "/docs", "problems": "/problems", "storage": "/storage",
}  # fmt: skip


def open_settled(chromium: Chromium, url: str) -> None:
    """Opens a page, and waits until its charts are drawn."""
    chromium.open(url)
    chromium.run("document.getElementById('genes-part')?.scrollIntoView()")  # drawn once it is near
    drawn = "return [...document.querySelectorAll('.chart')].every(c => c.hidden || !c.offsetWidth || c.querySelector('svg'))"
    chromium.until(lambda: chromium.run(drawn))
    chromium.until(lambda: chromium.run("return document.readyState") == "complete")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing_serious(chromium: Chromium, made: Server, page: str, theme: Theme) -> None:
    for width in (1280, 375):
        chromium.look(width=width, theme=theme)
        open_settled(chromium, f"{made.url}{PAGES[page]}")
        chromium.run("for (const part of document.querySelectorAll('details')) part.open = true")
        grave = axe.found(chromium)["grave"]
        assert not grave, json.dumps(grave, indent=1)


def test_it_is_the_axe_core_of_npm_that_finds_nothing(chromium: Chromium, made: Server) -> None:
    if axe.missing():
        pytest.skip(f"{axe.missing()}; the old axe-core of axe-selenium-python looked at the pages")
    chromium.open(made.url)
    assert axe.found(chromium) == {"version": axe.VERSION, "grave": []}
    chromium.run(
        "document.querySelector('input[name=name]').closest('label').replaceWith(document.createElement('input'))"
    )
    assert [rule for rule, _ in axe.found(chromium)["grave"]] == ["label"]


@pytest.mark.parametrize("page", PAGES)
def test_pages_fit_a_phone_and_break_no_policy(chromium: Chromium, made: Server, page: str) -> None:
    chromium.look(width=375)
    open_settled(chromium, f"{made.url}{PAGES[page]}")
    chromium.run("for (const part of document.querySelectorAll('details')) part.open = true")
    assert chromium.run("const e = document.documentElement; return e.scrollWidth - e.clientWidth") == 0
    refused = [text for text in chromium.complaints() if page != "error" or "404" not in text]
    assert not refused


def test_a_change_of_theme_recolours_the_charts(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "plain-1")
    colour = "return document.getElementById('front-chart').layout.font.color"
    light = chromium.run(colour)
    chromium.look(theme="dark")
    chromium.until(lambda: chromium.run(colour) != light)
