"""The list of runs: its buttons."""

from __future__ import annotations

import pytest

from nas.service.api.schemas import RunLabels
from nas.service.state import RequestedState
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
