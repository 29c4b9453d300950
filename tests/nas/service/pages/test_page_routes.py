"""Every page shows the data of the service, escapes it, and runs no scripts but its own files."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math
import re
from dataclasses import replace

import pytest

from nas import recipes
from nas.analysis.formatting import format_value, miss_text
from nas.analysis.report import RunReport
from nas.api import schemas
from nas.errors import StoreError
from nas.problem.budget import Budget
from nas.service.pages import assets, page_routes, rendering
from nas.service.service import Service
from nas.store.base import RunStatus
from nas.store.folder import RunsFolder, write_all
from nas.store.opening import open_store
from tests.contracts.run_facts import search_facts
from tests.nas.export.runs import BOARD, PROFILE, SPACE, TWO, fail
from tests.nas.service.made_runs import regressed, searched, trained
from tests.nas.service.pages.conftest import Browser
from tests.nas.service.pages.outline import Outline
from tests.nas.service.sent_files import begun_capture

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def queued(runs: RunsFolder, *, name: str = "waiting") -> str:
    """A run that no driver has begun."""
    folder = runs.create(name, f"name: {name}\n")
    open_store(folder, create=True, driver=True).close()
    return folder.id


def test_pages_run_only_their_own_files_and_fetch_nothing_from_elsewhere(browser: Browser, runs: RunsFolder) -> None:
    searched(runs)
    searched(runs, name="other")
    trained(runs)
    queued(runs)
    for path in (
        "/", "/runs/made-1", "/runs/made-1/evaluations",
        "/runs/supernet-1", "/runs/waiting-1", "/compare", "/compare?runs=made-1&runs=other-1", "/submit",
        "/submit?recipe=fashion-mnist-vit", "/hardware", f"/hardware/{PROFILE}", "/login", "/login?refused=1", "/problems",
        "/docs", "/storage",
    ):  # fmt: skip
        check_safe(browser, path)


def check_safe(browser: Browser, path: str) -> None:
    """Asserts that a page could not be made to run a script that is not the pages' own."""
    page = browser.page(path)
    for script in page.all("script"):
        if "src" not in script.attributes:
            assert script.attributes["type"] == "application/json"
            json.loads(script.text)
    for element in page.elements:
        assert not [name for name in element.attributes if name.startswith("on")]
        for name in ("src", "href", "action"):
            assert (element.attributes.get(name) or "/").startswith(("/", "#", "?")), element
    for name in [e.attributes["src"] for e in page.all("script") if "src" in e.attributes]:
        assert name is not None
        assert browser.get(name).status_code == 200
    assert page.texts("title")[0].endswith("· nas")
    assert len(page.all("h1")) == 1
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))


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
    # A training has no front to compare.
    assert [e.attributes["value"] for e in page.all("input", type="checkbox")] == ["going-on-1", "made-1"]


def test_experts_are_on_the_page_of_a_run_once_they_are_drawn(browser: Browser, runs: RunsFolder) -> None:
    folder = trained(runs)
    assert not browser.page("/runs/supernet-1").all("img")
    assert browser.get("/runs/supernet-1/experts.svg").status_code == 404
    write_all(folder.plots, {"experts.svg": b"<svg/>"})
    (picture,) = browser.page("/runs/supernet-1").all("img")
    assert "active experts" in (picture.attributes["alt"] or "")
    drawn = browser.get(picture.attributes["src"] or "")
    assert (drawn.status_code, drawn.headers["content-type"], drawn.content) == (200, "image/svg+xml", b"<svg/>")


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
    monkeypatch.setattr(page_routes, "_SHOWN", 7)
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
    assert not browser.page("/runs/supernet-1").all("div", id="front-chart")
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
    store = open_store(runs.create("early", "name: early\n"), create=True, driver=True)
    store.set_status(RunStatus.CANCELLED, reason="cancelled")
    store.close()
    assert "before it measured a network" in browser.page("/runs/early-1").texts("div", id="front-later")[0]


def test_the_reference_has_every_operation_of_the_api(browser: Browser) -> None:
    described = browser.get("/api/v1/openapi.json").json()
    page = browser.page("/docs")
    expected = {(m.upper(), path) for path, methods in described["paths"].items() for m in methods}
    found = [tuple(" ".join(text.split()).split(" ")[:2]) for text in page.texts("summary")]
    assert set(found) == expected
    assert len(found) == len(expected)
    [link] = page.all("a", aria_current="page")
    assert link.attributes["href"] == "/docs"


def test_captured_models_are_listed_where_a_job_is_written_and_where_they_are_deleted(
    browser: Browser, service: Service
) -> None:
    assert "Captured models" not in browser.page("/submit").elements[0].text
    service.models.add("net", io.BytesIO(begun_capture()))
    [choice] = browser.page("/submit").all("details", id="models")
    assert "supernet: {model: models/net}" in choice.text
    page = browser.page("/storage")
    assert "models/net" in page.texts("code")
    assert [e.attributes["data-path"] for e in page.all("button", class_="danger")] == ["/models/net"]


def test_hostile_texts_are_shown_as_texts(browser: Browser, runs: RunsFolder, service: Service) -> None:
    folder = searched(runs)
    store = open_store(folder, driver=True)
    facts = store.facts()
    assert facts is not None
    store.describe(replace(facts, name=HOSTILE, search=replace(store.search_facts(), algorithm=HOSTILE)))
    store.record_event(HOSTILE, {HOSTILE: HOSTILE})
    store.set_status(RunStatus.FAILED, reason=HOSTILE)
    store.close()
    folder.job_file.write_text(HOSTILE)
    service.hardware.add(
        schemas.ProfileUpload(
            profile=json.dumps({"name": "mine", "threads": 1, "batch_size": 1, "description": HOSTILE})
        )
    )
    shown = {
        "/": 2, "/runs/made-1": 6, "/hardware": 1, "/hardware/mine": 1, "/submit": 1, "/compare": 0,
        f"/?name={HOSTILE.replace('&', '%26')}": 0,
    }  # fmt: skip
    plain = {path: len(browser.page(path).all("script")) for path in shown}
    for path, n_scripts in plain.items():
        page = browser.page(path)
        assert len(page.all("script")) == n_scripts
        assert not page.all("img")
        text = page.elements[0].text
        assert text.count(HOSTILE) >= shown[path], path
        # Every script is a file of the pages, or data.
        assert all("src" in e.attributes or e.attributes.get("type") for e in page.all("script"))


def test_a_comparison_shows_how_the_jobs_differ_even_without_a_common_objective(
    browser: Browser, runs: RunsFolder
) -> None:
    searched(runs, names=("accuracy", "macs"))
    other = searched(runs, names=(f"latency_ms@{PROFILE}", "parameters"))
    other.job_file.write_text(f"{other.job_file.read_text()}\nprecisions: [int8]  # {HOSTILE}\n")
    page = browser.page("/compare?runs=made-1&runs=made-2")
    assert "no common front" in page.texts("p", class_="notice")[1]
    assert page.texts("code") == ["precisions", "[fp32]", "[int8]"]
    assert len([box for box in page.all("input", type="checkbox") if "checked" in box.attributes]) == 2


def test_data_of_scripts_cannot_leave_its_element(browser: Browser, runs: RunsFolder, service: Service) -> None:
    searched(runs)
    searched(runs, name="other")
    html = browser.html("/compare?runs=made-1&runs=other-1")
    [inside] = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL)
    assert "<" not in inside
    data = json.loads(inside)
    compared = service.results.compare(["made-1", "other-1"])
    assert [run["run"] for run in data["runs"]] == ["made-1", "other-1"]
    assert data["runs"][0]["curve"] == [list(pair) for pair in compared.runs[0].curve]


def test_errors_are_pages_that_people_can_read(browser: Browser, runs: RunsFolder) -> None:
    trained(runs)
    for path, status, mentioned in (
        ("/runs/none", 404, "unknown run 'none'"),
        ("/runs/..%2F..%2Fetc", 404, "Not"),
        ("/runs/supernet-1/networks.json", 409, "supernet-1"),
        ("/?offset=-1", 422, "offset"),
        ("/hardware/none", 404, "unknown"),
        ("/submit?recipe=none", 404, "unknown recipe 'none'"),
        ("/static/x/none.js", 404, "none.js"),
        ("/static/x/..%2Froutes.py", 404, "Not"),
    ):
        answer = browser.get(path)
        assert answer.status_code == status, path
        assert mentioned in answer.text.replace("&#39;", "'")


def test_an_error_of_a_comparison_is_shown_above_the_form(browser: Browser, runs: RunsFolder) -> None:
    searched(runs)
    page = browser.page("/compare?runs=made-1&runs=none")
    assert any("unknown run 'none'" in text for text in page.texts("p", class_="notice"))
    checked = [e.attributes["value"] for e in page.all("input", type="checkbox") if "checked" in e.attributes]
    assert checked == ["made-1"]


def test_the_form_holds_the_recipe_as_it_is(browser: Browser) -> None:
    for recipe in recipes.list_recipes():
        [field] = browser.page(f"/submit?recipe={recipe.name}").all("textarea")
        # A parser leaves out the first newline of a text area, as HTML says.
        assert field.text.removeprefix("\n") == recipes.read_recipe(recipe.name)
        assert field.text.startswith("\n")


def test_every_field_of_a_form_has_a_label_and_a_place_for_errors(browser: Browser, service: Service) -> None:
    for path, form, fields in (
        ("/submit", "upload", ["name", "archive"]),
        ("/hardware", "add-profile", ["name", "threads", "batch_size", "provider", "placement", "description"]),
        (f"/hardware/{PROFILE}", "measure", ["model"]),
    ):
        page = browser.page(path)
        assert page.all("form", id=form)
        controls = [e.attributes for e in page.all("input") if e.attributes.get("aria-describedby")]
        assert [control["name"] for control in controls] == fields
        ids = {e.attributes["id"] for e in page.elements if "id" in e.attributes}
        for control in controls:
            described = (control["aria-describedby"] or "").split()
            assert f"{control['id']}-problem" in described
            assert set(described) <= ids
            assert page.all("label", for_=control["id"])
            if control.get("type") == "file":
                assert control["data-most"] == str(service.settings.limits.upload_bytes)


def test_the_sign_in_form_keeps_the_requested_page(browser: Browser) -> None:
    page = browser.page("/login?next=/runs/x%22%3E")
    [field] = page.all("input", name="next")
    assert field.attributes["value"] == '/runs/x">'
    assert not page.all("p", role="alert")
    assert browser.page("/login?refused=1").texts("p", role="alert") == ["This token is unknown, expired or revoked."]


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


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (2**19, "512 KiB"), (3 * 2**20, "3 MiB"), (20 * 2**30, "20 GiB")],
)
def test_sizes_have_the_unit_that_fits(size: int, text: str) -> None:
    assert rendering.bytes_text(size) == text
