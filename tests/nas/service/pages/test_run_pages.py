"""The list of runs, and the pages of one run with its front and its evaluations."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math

import pytest
import yaml

from nas.engine.formatting import format_value, miss_text
from nas.engine.predictions import Kind
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder, write_all
from nas.engine.store.opening import open_store
from nas.errors import StoreError
from nas.results.analysis.report import RunReport
from nas.results.export.format_names import FORMATS
from nas.results.plots.prediction_pictures import words_of
from nas.search.problem.budget import Budget
from nas.service.api import schemas
from nas.service.pages import assets, page_routes, rendering
from nas.service.service import Service
from nas.service.state import TaskStatus
from tests.contracts.run_facts import search_facts
from tests.nas.results.export.runs import BOARD, PROFILE, SPACE, TWO, fail
from tests.nas.service.made_runs import predicted, queued, regressed, searched, trained
from tests.nas.service.pages.conftest import HOSTILE, Browser
from tests.nas.service.pages.outline import Outline


def links_in_place_of(browser: Browser, path: str, kind: str) -> list[str | None]:
    """The links of a page that has nothing of a kind to show in a table."""
    page = browser.page(path)
    assert not page.all("table", class_=kind)
    assert len(page.all("p", class_="empty")) == 1
    start = next(i for i, e in enumerate(page.elements) if e.attributes.get("class") == "empty")
    return [e.attributes["href"] for e in page.elements[start:] if e.tag == "a"]


def test_runs_are_listed_the_newest_first_with_what_can_be_done(browser: Browser, runs: RunsFolder) -> None:
    assert links_in_place_of(browser, "/", "runs") == ["/submit"]
    trained(runs)
    searched(runs)
    searched(runs, name="going-on", final=False)  # its driver is gone
    page = browser.page("/")
    assert [text.split()[0] for text in page.texts("th", scope="row")] == ["going-on-1", "made-1", "supernet-1"]
    assert [text.split()[0] for text in page.texts("td", class_="status")] == ["interrupted", "finished", "finished"]
    assert page.texts("div", class_="progress") == ["40 of 40 evaluations", "40 of 40 evaluations", "4 of 4 epochs"]
    made = [e.attributes["data-action"] for e in page.all("button", data_run="made-1")]
    assert made == ["label", "resume", "delete"]
    assert [e.attributes["value"] for e in page.all("input", name="runs")] == ["going-on-1", "made-1", "supernet-1"]


def test_the_steps_of_a_search_are_on_its_page_folded(browser: Browser, runs: RunsFolder) -> None:
    searched(runs)
    page = browser.page("/runs/made-1")
    (part,) = page.all("details", id="steps-part")
    assert "open" not in part.attributes
    (summary,) = [text for text in page.texts("summary") if text.startswith("Steps")]
    assert summary == "Steps of the search (5)"
    text = browser.get("/runs/made-1").text
    assert "4 of 5 steps by models" in text
    assert "<b>accuracy</b> τ 0.80: 60 % ridge, 40 % LightGBM" in text
    assert "1,204" in text


def test_experts_are_on_the_page_of_a_run_once_they_are_drawn(browser: Browser, runs: RunsFolder) -> None:
    folder = trained(runs)
    assert not browser.page("/runs/supernet-1").all("img")
    assert browser.get("/runs/supernet-1/experts.svg").status_code == 404
    write_all(folder.plots, {"experts.svg": b"<svg/>"})
    (picture,) = browser.page("/runs/supernet-1").all("img")
    assert "active experts" in (picture.attributes["alt"] or "")
    drawn = browser.get(picture.attributes["src"] or "")
    assert (drawn.status_code, drawn.headers["content-type"], drawn.content) == (200, "image/svg+xml", b"<svg/>")


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_the_page_of_a_run_shows_the_predictions_that_it_keeps(browser: Browser, runs: RunsFolder, kind: Kind) -> None:
    searched(runs)
    assert not browser.page("/runs/made-1").all("section", id="predictions")
    assert browser.get("/runs/made-1/predictions.json?network=0").status_code == 404
    _, predictions = predicted(runs, kind, name="dense")
    addresses = [e.attributes["href"] or "" for e in browser.page("/runs/dense-1").all("image")]
    assert [browser.get(address).content for address in addresses] == list(predictions.images)
    assert browser.get("/runs/dense-1/predictions/6.jpg").status_code == 404
    for place, key in enumerate(predictions.networks):
        shown = browser.get(f"/runs/dense-1/predictions.json?network={key}").json()
        assert shown["note"] == ""
        assert shown["pictures"].count('role="img"') == (18 if place < 2 else 12)
        assert words_of(predictions, place, 0) in shown["pictures"]
        assert all(chart["words"].startswith(chart["title"]) for chart in shown["charts"])
    other = browser.get("/runs/dense-1/predictions.json?network=9-9-9").json()
    assert (other["charts"], other["pictures"]) == ([], "")
    assert other["note"].startswith("No predictions are kept of this network")


def test_a_damaged_file_of_predictions_leaves_the_rest_of_the_page(browser: Browser, runs: RunsFolder) -> None:
    folder, predictions = predicted(runs, "boxes", name="dense")
    folder.predictions_file.write_bytes(b"PK damaged")
    page = browser.page("/runs/dense-1")
    (notice,) = [text for text in page.texts("p", class_="notice") if "predictions" in text]
    assert notice.startswith("The file of this run's predictions cannot be read. Remove predictions.npz")
    assert page.all("div", id="front-chart")
    answer = browser.get(f"/runs/dense-1/predictions.json?network={predictions.networks[0]}")
    assert answer.status_code == 503
    assert "predictions.damaged" in answer.text


def test_runs_are_filtered_and_what_was_asked_stays_in_the_form(browser: Browser, runs: RunsFolder) -> None:
    trained(runs)
    searched(runs)
    page = browser.page("/?kind=training&name=super")
    assert [text.split()[0] for text in page.texts("th", scope="row")] == ["supernet-1"]
    assert page.all("input", name="name")[0].attributes["value"] == "super"
    assert [e.text.strip() for e in page.all("option") if "selected" in e.attributes] == ["training"]
    assert links_in_place_of(browser, "/?name=nothing", "runs") == ["/"]  # all runs


def test_the_list_has_the_best_values_and_the_front_of_each_search(
    browser: Browser, runs: RunsFolder, service: Service
) -> None:
    trained(runs)
    searched(runs)
    front = service.results.report("made-1").front
    page = browser.page("/")
    best = f"{100 * max(p.values['accuracy'] for p in front):.2f} %"
    assert page.texts("td", data_title="Best accuracy") == [best, "–"]
    assert len(page.all("svg", class_="thumbnail")) == 1
    assert len(page.all("circle")) == len(front)
    assert page.texts("td", class_="data") == ["digits", "digits"]


def test_pages_name_the_metric_of_another_task(browser: Browser, runs: RunsFolder, service: Service) -> None:
    searched(runs)
    regressed(runs)
    page = browser.page("/")
    scores = page.texts("td", data_title="Best score")
    assert [score.split()[0] for score in scores] == ["mae", scores[1].split()[0]]
    assert scores[1].endswith("%")
    for address in ("/runs/ages-1", "/runs/ages-1/evaluations"):
        notes = " ".join(browser.page(address).texts("p", class_="note"))
        assert "Mean absolute error ± one standard error" in notes
        assert "Accuracy" not in notes
    training = service.results.training("ages-1")
    assert (training.metric.name, training.metric.unit, training.title) == ("mae", "", "Mean absolute error")
    assert service.results.training("made-1").title == "Accuracy (%)"
    assert service.results.scored("ages-1") == "mae"


def test_runs_are_sorted_by_their_heads_in_both_directions(browser: Browser, runs: RunsFolder) -> None:
    trained(runs)
    searched(runs, name="few", n=6, limits={"accuracy": (0.75, None)})
    searched(runs, name="many")
    page = browser.page("/?name=-1")
    link = next(e.attributes["href"] for e in page.all("a") if e.text == "Best latency")
    assert link == "?name=-1&sort=latency_ms"
    page = browser.page(f"/{link}")
    [head] = page.all("th", aria_sort="ascending")
    assert head.text.strip() == "Best latency"
    first = [text.split()[0] for text in page.texts("th", scope="row")]
    link = next(e.attributes["href"] for e in page.all("a") if e.text == "Best latency")
    assert link == "?name=-1&sort=latency_ms&descending=1"
    last = [text.split()[0] for text in browser.page(f"/{link}").texts("th", scope="row")]
    assert first == [*last[:2][::-1], "supernet-1"]
    assert last[2:] == ["supernet-1"]


def test_tags_lead_to_the_runs_that_have_them(browser: Browser, runs: RunsFolder, service: Service) -> None:
    searched(runs)
    searched(runs, name="other")
    assert not browser.page("/").all("select", name="tag")
    service.submissions.label("made-1", schemas.RunLabels(tags=("größer",), note=HOSTILE))
    page = browser.page("/")
    [tag] = page.all("a", class_="tag")
    assert HOSTILE in page.elements[0].text
    page = browser.page(tag.attributes["href"] or "")
    assert [text.split()[0] for text in page.texts("th", scope="row")] == ["made-1"]
    assert [e.text.strip() for e in page.all("option") if "selected" in e.attributes] == ["größer"]
    assert HOSTILE in browser.page("/runs/made-1").texts("p", class_="labels")[0]


def test_many_runs_come_in_parts(browser: Browser, runs: RunsFolder) -> None:
    for _ in range(53):
        queued(runs)
    page = browser.page("/?name=wait")
    assert len(page.texts("th", scope="row")) == 50
    [older] = page.all("a", rel="next")
    last = browser.page(f"/{older.attributes['href']}")
    assert len(last.texts("th", scope="row")) == 3
    [newer] = last.all("a", rel="prev")
    assert "offset=0" in (newer.attributes["href"] or "")
    assert "name=wait" in (newer.attributes["href"] or "")
    # Runs may be deleted meanwhile.
    assert links_in_place_of(browser, "/?name=wait&offset=100", "runs") == ["?name=wait"]  # the newest
    assert links_in_place_of(browser, "/?name=none&offset=100", "runs") == ["/"]


def parts_of(browser: Browser, path: str) -> list[Outline]:
    """All parts of a table, by its links to the next one."""
    pages = [browser.page(path)]
    while links := pages[-1].all("a", rel="next"):
        pages.append(browser.page(f"{path.partition('?')[0]}{links[0].attributes['href']}"))
    return pages


def keys_in(pages: list[Outline]) -> list[str | None]:
    return [e.attributes["data-key"] for page in pages for e in page.all("tr") if "data-key" in e.attributes]


def test_a_run_shows_its_front_as_the_report_has_it(
    browser: Browser, runs: RunsFolder, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_routes, "_MEMBERS", 5)
    searched(runs, limits={f"latency_ms@{PROFILE}": (None, 0.5), "macs": (None, 3e7)})
    report = service.results.report("made-1")
    pages = parts_of(browser, "/runs/made-1")
    page = pages[0]
    assert len(pages) == math.ceil(len(report.front) / 5) > 1
    assert keys_in(pages) == [point.key for point in report.front]
    by_accuracy = sorted(report.front, key=lambda point: -point.values["accuracy"])
    assert keys_in(parts_of(browser, "/runs/made-1?sort=accuracy&descending=true")) == [p.key for p in by_accuracy]
    cells = [cell for page in pages for cell in page.texts("td")]
    for point in report.front:
        for metric in report.columns:
            assert format_value(metric, point.values[metric.name], point.errors[metric.name]) in cells
    assert "Limits latency_ms@cpu-1-thread at most 0.5 ms; macs at most 30 M" in page.texts("li")


def test_a_run_without_a_feasible_network_shows_the_nearest(
    browser: Browser, runs: RunsFolder, service: Service
) -> None:
    searched(runs, limits={f"latency_ms@{PROFILE}": (None, 0.01)})
    page = browser.page("/runs/made-1")
    report = service.results.report("made-1")
    assert report.nearest is not None
    assert any(miss_text(report.nearest.miss) in text for text in page.texts("div", class_="notice"))
    assert not [e for e in page.all("tr") if "data-key" in e.attributes]
    assert page.texts("p", class_="empty")


def test_all_evaluations_are_filtered_by_status_and_ranges(
    browser: Browser, runs: RunsFolder, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_routes, "_PAGE_SIZE", 7)
    searched(runs)
    report = service.results.report("made-1")
    path = "/runs/made-1/evaluations"
    assert keys_in(parts_of(browser, path)) == list(report.evaluated.keys)
    assert keys_in(parts_of(browser, f"{path}?status=front")) == [p.key for p in report.front]
    final = [report.candidates[i] for i in range(len(report.candidates))]
    wanted = [p.key for p in final if p.values["accuracy"] >= 0.75 and p.values[f"latency_ms@{PROFILE}"] <= 0.5]
    filtered = f"{path}?min.accuracy=75&max.latency_ms@{PROFILE}=0.5"
    pages = parts_of(browser, filtered)
    assert keys_in(pages) == wanted
    assert len(pages) > 1
    for page in pages:  # the links to other parts keep the filter, and the form shows it
        assert page.all("input", name="min.accuracy")[0].attributes["value"] == "75"
    [table] = [e.attributes["href"] for e in pages[0].all("a") if "evaluations.csv" in (e.attributes.get("href") or "")]
    rows = list(csv.DictReader(io.StringIO(browser.get(table or "").text)))
    assert [row["key"] for row in rows] == wanted
    assert links_in_place_of(browser, f"{path}?min.accuracy=100", "values") == [path]
    for hostile in ("min.accuracy=much", "max.accuracy=nan", "sort=none"):
        page = browser.page(f"{path}?{hostile}")
        assert page.texts("p", role="alert")
        assert page.all("form")


def test_a_run_of_two_profiles_lists_the_fronts_of_each_network(
    browser: Browser, runs: RunsFolder, service: Service
) -> None:
    searched(runs, names=["accuracy", f"latency_ms@{PROFILE}", f"latency_ms@{BOARD}"])
    report = service.results.report("made-1")
    shown = [
        text for page in parts_of(browser, "/runs/made-1") for text in page.texts("td", data_title="On the front of")
    ]
    expected = [", ".join(p for p, front in report.fronts.items() if point in front) or "–" for point in report.front]
    assert shown == expected
    assert {PROFILE, BOARD, f"{PROFILE}, {BOARD}"} & set(shown)


def test_trainings_and_runs_that_wait_have_a_page_without_charts(browser: Browser, runs: RunsFolder) -> None:
    trained(runs)
    queued(runs)
    training = browser.page("/runs/supernet-1")
    assert not training.all("div", id="front-chart")
    assert "To search this supernet, write a job" in training.texts("p", class_="empty")[0]
    assert "once networks are measured" in browser.page("/runs/waiting-1").texts("div", id="front-later")[0]


def test_a_run_that_measured_nothing_says_why_and_what_to_do(browser: Browser, runs: RunsFolder) -> None:
    folder = runs.create("failing", "name: failing\n")
    store = open_store(folder, create=True, driver=True)
    store.describe(search_facts(SPACE, TWO, profiles=[PROFILE], name="failing"), budget=Budget(2))
    for architecture in (SPACE.smallest, SPACE.largest):
        fail(store, architecture, store.search_facts().objectives)
    store.set_status(RunStatus.FAILED, reason="nothing could be measured")
    store.close()
    page = browser.page("/runs/failing-1")
    assert not page.all("div", id="front-chart")
    assert not page.all("table")
    [advice] = page.texts("div", id="front-later")
    assert "none of the 2 evaluated networks" in advice
    assert "2 × the worker died" in page.texts("li")
    assert "nas resume failing-1" in advice
    for status, reason in ((RunStatus.CANCELLED, "cancelled"), (RunStatus.FAILED, "data.image_size: write 8")):
        store = open_store(runs.create(str(status), f"name: {status}\n"), create=True, driver=True)
        store.set_status(status, reason=reason)
        store.close()
    cancelled = browser.page("/runs/cancelled-1")
    [advice] = cancelled.texts("div", id="front-later")
    assert "the run was cancelled before it measured a network" in advice
    assert "Find the cause" not in advice
    failed = browser.page("/runs/failed-1")
    [advice] = failed.texts("div", id="front-later")
    assert "the run ended before it measured a network" in advice
    assert "data.image_size: write 8" in advice
    assert "Find the cause above or in the log, and mend it." in failed.texts("li")
    assert len([link for link in failed.all("a") if link.attributes["href"] == "/submit?run=failed-1"]) == 2


def test_a_run_offers_the_formats_of_its_family(browser: Browser, runs: RunsFolder) -> None:
    folder = searched(runs)
    job = yaml.safe_load(folder.job_file.read_text())
    offered: list[tuple[dict[str, str], list[str]]] = [
        ({"family": "mobile-cnn", "preset": "digits"}, ["onnx", "torch"]),
        ({"family": "vit-encoder", "preset": "tiny"}, ["onnx", "torch", "transformers"]),
        ({"from": "other-1"}, ["onnx", "torch", "transformers"]),  # whose family its job does not name
    ]
    for supernet, formats in offered:
        folder.job_file.write_text(yaml.safe_dump({**job, "supernet": supernet}))
        options = [option.attributes.get("value") for option in browser.page("/runs/made-1").all("option")]
        assert [value for value in options if value in FORMATS] == formats


def test_values_of_the_shorter_protocol_are_marked(browser: Browser, runs: RunsFolder, service: Service) -> None:
    searched(runs)
    store = open_store(runs.get("made-1"), driver=True)
    report: RunReport = service.results.report("made-1")
    few = (report.front[0].architecture, report.front[-1].architecture)
    store.update_state(finalists=few)
    store.close()
    assert len(service.results.report("made-1").front) == 2
    assert " *" not in browser.html("/runs/made-1").replace("/* ", "")


def test_a_large_runs_page_is_the_same_in_parts(
    browser: Browser, runs: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched(runs)
    whole = browser.get("/runs/made-1")
    monkeypatch.setattr(page_routes, "_LARGE", 1)
    parts = browser.get("/runs/made-1")
    assert "content-length" not in parts.headers
    assert parts.text == whole.text
    assert parts.headers["content-type"] == whole.headers["content-type"]
    assert parts.headers["cache-control"] == "no-store"


def test_a_page_in_parts_sends_its_head_before_results_are_read(runs: RunsFolder, service: Service) -> None:
    searched(runs)

    def later() -> None:
        raise AssertionError("results were read for the head")

    sent = rendering.page_in_parts("run.html", run=service.runs.summary("made-1"), has_results=True, later=later)

    async def first() -> str:
        return str(await anext(aiter(sent.body_iterator)))

    head = asyncio.run(first())
    assert "/runs/made-1/networks.json" in head
    assert assets.PLOTLY in head


def test_an_error_in_the_rest_of_a_large_page_is_shown_in_its_place(
    browser: Browser, runs: RunsFolder, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched(runs)

    def damaged(run: str) -> None:
        raise StoreError(f"{run}: is <damaged>")

    monkeypatch.setattr(page_routes, "_LARGE", 1)
    monkeypatch.setattr(service.runs, "detail", damaged)
    page = browser.page("/runs/made-1")
    assert page.texts("p", class_="detail") == ["made-1: is <damaged>"]
    assert len(page.all("head")) == len(page.all("body")) == len(page.all("main")) == 1


def test_a_page_has_the_artifacts_of_its_run_and_buttons_that_make_them(
    browser: Browser, runs: RunsFolder, service: Service
) -> None:
    run = searched(runs).id
    made = service.artifacts.request(run, schemas.CascadeRequest(kind="cascade"))
    values = {"accuracy": 0.9, "error": 0.01, "mean_ms": 0.1, "worst_ms": 0.2, "share": 0.25}
    single, pair = {"small": 0, "large": None, **values}, {"small": 0, "large": 1, **values}
    rows = [{"number": 0, "cascade": single}, {"number": 1, "cascade": pair}]
    result = {"networks": ["a", "b"], "numbers": [7, 3], "examples": 449, "cascades": [pair], "rows": rows}
    service.state.change_task(made.artifact, TaskStatus.FINISHED, result=result)
    page = browser.page(f"/runs/{run}")
    assert page.texts("td", data_title="Networks") == ["7", "7 then 3"]
    buttons = [
        json.loads(e.attributes["data-artifact"] or "") for e in page.elements if "data-artifact" in e.attributes
    ]
    assert [button["kind"] for button in buttons] == ["plots", "cascade", "cascade"]
    assert buttons[-1] == {"kind": "cascade", "row": 1, "test": True, "profile": None}
    tuned = service.submissions.finetune(run, schemas.FinetuningRequest()).run
    assert f"/runs/{tuned}" in [e.attributes.get("href") for e in browser.page(f"/runs/{run}").all("a")]
    browser.page("/storage")


def test_the_job_of_a_run_is_submitted_again_with_changes(browser: Browser, runs: RunsFolder) -> None:
    run = trained(runs).id
    links = [e.attributes.get("href") for e in browser.page(f"/runs/{run}").all("a")]
    assert f"/submit?run={run}" in links
    page = browser.page(f"/submit?run={run}")
    assert page.all("textarea")[0].text.strip() == runs.get(run).job_file.read_text().strip()
    [kind] = [e for e in page.all("input", name="kind") if "checked" in e.attributes]
    assert kind.attributes["value"] == "training"
    browser.page("/submit?run=none-1", status=404)


def test_the_list_has_the_columns_and_the_filter_of_its_address(
    browser: Browser, runs: RunsFolder, service: Service
) -> None:
    trained(runs)
    searched(runs)
    address = "/?columns=submitter&columns=evaluations&data=digits&accuracy_percent=1"
    page = browser.page(address)
    assert [text.split()[0] for text in page.texts("th", scope="row")] == ["made-1"]
    assert page.texts("a", class_="sort") == ["Run", "Submitted by", "Evaluations"]
    link = next(e.attributes["href"] or "" for e in page.all("a") if e.text == "Submitted by")
    assert link == "?data=digits&accuracy_percent=1&columns=submitter&columns=evaluations&sort=submitter"
    assert browser.page(f"/{link}").texts("td", data_title="Evaluations") == ["40"]
    checked = [e.attributes["value"] for e in page.all("input", name="columns") if "checked" in e.attributes]
    assert checked == ["submitter", "evaluations"]
    wrong = browser.page("/?accuracy_percent=much")
    assert wrong.texts("p", class_="notice")[1:] == [
        "the best accuracy: expected a number, got 'much'; all runs are shown"
    ]
    assert wrong.all("input", name="accuracy_percent")[0].attributes["value"] == "much"


def test_the_trainings_of_several_runs_are_compared(browser: Browser, runs: RunsFolder, service: Service) -> None:
    regressed(runs)
    regressed(runs)
    searched(runs)
    page = browser.page("/compare?runs=ages-1&runs=ages-2&runs=made-1")
    [data] = [
        json.loads(e.text) for e in page.all("script", type="application/json") if e.attributes["id"] == "training-data"
    ]
    titles = [figure["title"] for figure in data]
    assert titles[:2] == [f"Mean absolute error of the {size} network" for size in ("largest", "smallest")]
    assert titles[-1] == "Loss, training"
    lines = {trace["name"]: (trace["x"], trace["y"]) for trace in data[0]["figure"]["data"]}
    assert lines == {"ages-1": ([1.0, 2.0], [8.0, 4.0]), "ages-2": ([1.0, 2.0], [8.0, 4.0])}
    assert browser.page("/compare?runs=ages-1&runs=ages-2").all("script", id="training-data")  # without a hypervolume
    # Trainings alone, of which there is no front, are compared as well.
    trained(runs)
    trained(runs)
    assert not browser.page("/compare?runs=supernet-1&runs=supernet-2").texts("p", class_="notice")[1:]
    [notice] = browser.page("/compare?runs=none-1&runs=made-1").texts("p", class_="notice")[1:]
    assert "none-1" in notice
