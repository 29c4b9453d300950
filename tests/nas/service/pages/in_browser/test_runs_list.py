"""The list of runs: its buttons."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

from nas.service.api.schemas import JobSubmission, RunLabels
from nas.service.state import RequestedState
from tests.nas.commands import SMALL_JOB
from tests.nas.service.made_runs import searched
from tests.nas.service.pages.chromium import Chromium
from tests.nas.service.pages.running import Server

pytestmark = pytest.mark.slow


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
    chromium.until(lambda: (server.state.submission("plain-1") or submission).wanted is RequestedState.CANCELLED)
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


def test_enter_in_a_field_of_a_dialog_saves_and_the_button_close_does_not(chromium: Chromium, server: Server) -> None:
    searched(server.runs, name="plain")
    chromium.open(server.url)
    chromium.click("#label-plain-1")
    chromium.find("#label-tags").send_keys("paper")
    chromium.click("#ask-label [data-close]")
    chromium.until(lambda: not chromium.all("dialog[open]"))
    assert server.service.runs.summary("plain-1").tags == ()
    chromium.click("#label-plain-1")
    chromium.find("#label-tags").send_keys("paper", Keys.ENTER)
    chromium.until(lambda: chromium.text(".runs .tag") == "paper")
    assert not chromium.all("dialog[open]")
    chromium.click("#select-plain-1")
    chromium.click("#tag-selected")
    chromium.find("#ask-tag-selected input[name=add]").send_keys("v2", Keys.ENTER)
    chromium.until(lambda: server.service.runs.summary("plain-1").tags == ("paper", "v2"))


def test_all_columns_fit_beside_each_other(chromium: Chromium, server: Server) -> None:
    searched(server.runs, name="fashion-mnist-resnet")
    server.service.submissions.submit(JobSubmission(job=SMALL_JOB), "maximiliane")
    columns = ("data", "submitter", "started", "status", "evaluations", "accuracy", "latency_ms", "front")
    for width in (1280, 390):
        chromium.look(width=width)
        chromium.open(f"{server.url}/?{'&'.join(f'columns={column}' for column in columns)}")
        chromium.until(lambda: chromium.all(".thumbnail"))
        assert chromium.run("return document.documentElement.scrollWidth") <= width
        table, filters = chromium.find("table.runs").rect, chromium.find("form.filter").rect
        assert table["x"] + table["width"] <= filters["x"] + filters["width"] + 1


def test_selected_runs_are_tagged_and_deleted_together(chromium: Chromium, server: Server) -> None:
    searched(server.runs, name="plain")
    searched(server.runs, name="second")
    waiting = server.service.submissions.submit(JobSubmission(job=SMALL_JOB)).run
    chromium.open(server.url)
    chromium.click("#tag-selected")
    chromium.until(lambda: "Select runs first" in chromium.text("#messages"))
    chromium.click("#select-all")
    chromium.click("#tag-selected")
    assert chromium.text("#ask-tag-selected [data-name]") == "3 runs"
    chromium.find("#ask-tag-selected input[name=add]").send_keys("paper v2")
    chromium.find("#ask-tag-selected button[value=yes]").click()
    chromium.until(lambda: len(chromium.all(".runs .tag")) == 6)
    assert server.service.runs.summary("plain-1").tags == ("paper", "v2")
    chromium.click("#select-all")  # the list was replaced: none is selected
    chromium.click("#delete-selected")
    assert chromium.text("#delete-list") == f"{waiting}, second-1, plain-1"
    chromium.find("#ask-delete-selected button[value='']").click()
    assert len(server.runs.list()) == 3
    chromium.click("#delete-selected")
    chromium.find("#ask-delete-selected button[value=yes]").click()
    chromium.until(lambda: "2 of 3 done" in chromium.text("#ask-delete-selected [data-problem]"))
    assert waiting in chromium.text("#ask-delete-selected [data-problem]")
    assert [folder.id for folder in server.runs.list()] == [waiting]
    chromium.find("#ask-delete-selected button[value='']").click()
    chromium.until(lambda: len(chromium.all("#runs input[name=runs]")) == 1)


def test_a_phone_shows_the_columns_that_are_asked_for(chromium: Chromium, server: Server) -> None:
    searched(server.runs, name="plain")
    chromium.look(width=390)
    chromium.open(f"{server.url}/?columns=data&columns=started")
    assert [cell.is_displayed() for cell in chromium.all(".runs .data")] == [False, True]
