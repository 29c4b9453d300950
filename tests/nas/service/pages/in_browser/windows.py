"""What tests do in the pages: open them, choose networks, and fill in fields."""

from __future__ import annotations

from selenium.webdriver.remote.webelement import WebElement

from tests.nas.results.export.runs import PROFILE
from tests.nas.service.pages.chromium import Chromium
from tests.nas.service.pages.running import Server

LATENCY = f"latency_ms@{PROFILE}"


def chosen(chromium: Chromium) -> str:
    """The key of the chosen network; "" for none."""
    return chromium.text("#chosen-key")


def open_run(chromium: Chromium, server: Server, run: str) -> None:
    """Opens a run's page and waits until its charts are there."""
    chromium.open(f"{server.url}/runs/{run}")
    chromium.until(lambda: chromium.run("return !document.getElementById('chosen').hidden"))


def open_settled(chromium: Chromium, url: str) -> None:
    """Opens a page, and waits until its charts are drawn."""
    chromium.open(url)
    chromium.run("document.getElementById('genes-part')?.scrollIntoView()")  # drawn once it is near
    drawn = "return [...document.querySelectorAll('.chart')].every(c => c.hidden || !c.offsetWidth || c.querySelector('svg'))"
    chromium.until(lambda: chromium.run(drawn))
    chromium.until(lambda: chromium.run("return document.readyState") == "complete")


def set_limit(chromium: Chromium, bound: float) -> None:
    """Types a limit, as far as scripts can tell."""
    chromium.run(
        "const n = document.getElementById('limit-number'); n.value = arguments[0]; n.dispatchEvent(new Event('input'));",
        repr(bound),
    )


def write(chromium: Chromium, field: WebElement, text: str) -> None:
    """Puts a text into a field, as far as scripts can tell."""
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
    chromium.run(script, field, text)


def change(chromium: Chromium, selector: str, value: object) -> None:
    """Enters a value in a field and leaves it."""
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change', {bubbles: true}))"
    chromium.run(script, chromium.find(selector), value)
