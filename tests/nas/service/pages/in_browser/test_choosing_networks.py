"""A run's page: limits, points and rows that choose a network."""

from __future__ import annotations

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from nas.engine.formatting import format_value, title_of
from nas.errors import SelectionError
from nas.results.analysis.report import RunReport
from tests.nas.results.export.runs import BOARD
from tests.nas.service.pages.chromium import Chromium
from tests.nas.service.pages.in_browser.windows import LATENCY, chosen, open_run, set_limit
from tests.nas.service.pages.running import Server

pytestmark = pytest.mark.slow


def picked(server: Server, run: str, select: str) -> str:
    try:
        return server.service.results.pick(run, select).key
    except SelectionError:
        return ""


def bounds_around(report: RunReport, name: str) -> list[float]:
    """Limits on each side of some values, and beyond all."""
    values = sorted(p.values[name] for p in report.candidates)
    some = [values[i] for i in np.linspace(0, len(values) - 1, 12).astype(int)]
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


def test_the_front_is_sorted_and_turned_by_keyboard(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "four-1")
    report = made.service.results.report("four-1")
    metric = report.columns[2]
    values = {p.key: p.values[metric.name] for p in report.front}
    rows = "return [...document.querySelectorAll('#members tbody tr')].map(r => r.dataset.key)"
    chromium.run("window.same = true")
    for order in ("ascending", "descending"):
        chromium.find("#members thead th:nth-child(5) a").send_keys(Keys.ENTER)
        chromium.until(lambda o=order: chromium.all(f"#members thead th:nth-child(5)[aria-sort={o}]"))
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
