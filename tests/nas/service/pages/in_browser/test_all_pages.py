"""All pages: accessible in both themes, and as wide as a phone."""

from __future__ import annotations

import json

import pytest

from tests.nas.results.export.runs import PROFILE
from tests.nas.service.pages import axe
from tests.nas.service.pages.chromium import Chromium, Theme
from tests.nas.service.pages.in_browser.windows import open_settled
from tests.nas.service.pages.running import Server

pytestmark = pytest.mark.slow

PAGES = {
    "runs": "/", "run": "/runs/limited-1", "run of profiles": "/runs/two-1", "run of none": "/runs/impossible-1",
    "evaluations": "/runs/plain-1/evaluations?status=front", "training": "/runs/supernet-1",
    "compare": "/compare?runs=plain-1&runs=four-1", "submit": "/submit",
    "hardware": "/hardware", "profile": f"/hardware/{PROFILE}", "login": "/login?refused=1", "error": "/runs/none",
    "docs": "/docs", "problems": "/problems", "storage": "/storage", "queue": "/queue", "audit": "/audit",
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing_serious_and_pages_fit_a_phone(chromium: Chromium, made: Server, page: str) -> None:
    def open_page(theme: Theme) -> None:
        chromium.look(theme=theme)
        open_settled(chromium, f"{made.url}{PAGES[page]}")
        chromium.run("for (const part of document.querySelectorAll('details')) part.open = true")

    def check(rule: str = "") -> None:
        refused = [text for text in chromium.complaints() if page != "error" or "404" not in text]
        assert not refused  # by the policy of the page's content
        grave = axe.found(chromium, rule)["grave"]
        assert not grave, json.dumps(grave, indent=1)

    open_page("light")
    check()
    chromium.look(width=375)
    chromium.until(
        lambda: chromium.run("const e = document.documentElement; return e.scrollWidth - e.clientWidth") == 0
    )
    check()
    open_page("dark")  # differs in colours alone, and a phone's are those of a wide window
    check("color-contrast")


def test_it_is_the_axe_core_of_npm_that_finds_nothing(chromium: Chromium, made: Server) -> None:
    if axe.missing():
        pytest.skip(f"{axe.missing()}; the old axe-core of axe-selenium-python looked at the pages")
    chromium.open(made.url)
    assert axe.found(chromium) == {"version": axe.VERSION, "grave": []}
    chromium.run(
        "document.querySelector('input[name=name]').closest('label').replaceWith(document.createElement('input'))"
    )
    assert [rule for rule, _ in axe.found(chromium)["grave"]] == ["label"]


@pytest.mark.parametrize("path", ["/runs/two-1/evaluations", "/compare?runs=plain-1&runs=four-1"])
def test_tables_of_networks_and_runs_fit_the_page(chromium: Chromium, made: Server, path: str) -> None:
    wider = "return [...document.querySelectorAll('.networks')].map(e => e.offsetWidth - e.parentNode.clientWidth)"
    open_settled(chromium, f"{made.url}{path}")
    for width in (1280, 375):
        chromium.look(width=width)
        assert chromium.run(wider)
        chromium.until(lambda: max(chromium.run(wider)) <= 0)
