"""The page of the queue: its buttons and selections."""

from __future__ import annotations

import pytest
from selenium.webdriver.support.select import Select

from nas.service.api.schemas import JobSubmission
from tests.nas.commands import SMALL_JOB
from tests.nas.service.pages import axe
from tests.nas.service.pages.chromium import Chromium
from tests.nas.service.pages.running import Server

pytestmark = pytest.mark.slow


def test_runs_are_moved_and_given_priorities(chromium: Chromium, server: Server) -> None:
    for person in ("bea", "cas", "dan"):
        server.service.submissions.submit(
            JobSubmission(job=SMALL_JOB.replace("name: small", f"name: {person}")), person
        )

    def waiting() -> list[str]:
        return [run.run for run in server.service.runs.queue().waiting]

    chromium.open(f"{server.url}/queue")
    assert waiting() == ["bea-1", "cas-1", "dan-1"]
    chromium.click("#waiting-list tr:nth-child(3) button[data-change]")  # First
    chromium.until(lambda: chromium.text("#waiting-list tr:nth-child(1) th a") == "dan-1")
    assert waiting() == ["dan-1", "bea-1", "cas-1"]
    assert "placed" in chromium.text("#waiting-list tr:nth-child(1)")
    Select(chromium.find("select[data-run=bea-1]")).select_by_visible_text("low")
    chromium.until(lambda: waiting() == ["dan-1", "cas-1", "bea-1"])
    chromium.until(lambda: chromium.text("#waiting-list tr:nth-child(3) th a") == "bea-1")
    for width in (1280, 390):
        chromium.look(width=width)
        assert chromium.run("const e = document.documentElement; return e.scrollWidth - e.clientWidth") == 0
        assert not axe.found(chromium)["grave"]
    assert not chromium.complaints()
