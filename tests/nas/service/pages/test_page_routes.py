"""Every page shows the data of the service, escapes it, and runs no scripts but its own files."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pytest

from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.jobs import recipes
from nas.service.api import schemas
from nas.service.pages import rendering
from nas.service.service import Service
from tests.nas.results.export.runs import PROFILE
from tests.nas.service.made_runs import queued, searched, trained
from tests.nas.service.pages.conftest import HOSTILE, Browser
from tests.nas.service.sent_files import begun_capture


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
    curves = data["curves"]["data"]
    assert [trace["name"] for trace in curves] == ["made-1", "other-1"]
    largest = max(run.curve[-1][1] for run in compared.runs)
    expected = [(n, pytest.approx(100 * volume / largest)) for n, volume in compared.runs[0].curve]
    assert list(zip(curves[0]["x"], curves[0]["y"], strict=True)) == expected


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
        ("/submit", "upload", ["name", "archive", "name", "model"]),
        ("/hardware", "add-profile", ["name", "threads", "batch_size", "provider", "placement", "description"]),
        (f"/hardware/{PROFILE}", "measure", ["model"]),
    ):
        page = browser.page(path)
        assert page.all("form", id=form)
        described_inputs = [e.attributes for e in page.all("input") if e.attributes.get("aria-describedby")]
        controls = [control for control in described_inputs if "name" in control]  # those of the notification have none
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


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (2**19, "512 KiB"), (3 * 2**20, "3 MiB"), (20 * 2**30, "20 GiB")],
)
def test_sizes_have_the_unit_that_fits(size: int, text: str) -> None:
    assert rendering.bytes_text(size) == text
