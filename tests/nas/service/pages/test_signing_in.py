"""Signing in and out in a real browser, at a server that a team reaches by a name and without TLS."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.keys import Keys

from nas.engine.store.folder import RunsFolder
from nas.service.http.tokens import Tokens
from nas.service.people import Role
from tests.nas.service.made_runs import searched
from tests.nas.service.pages.chromium import TEAM, Chromium, running_chromium
from tests.nas.service.pages.running import Server, running_server

pytestmark = pytest.mark.slow

HOUR_S = 3600.0
UNKNOWN = "This token is unknown, expired or revoked."


class Clock:
    """The time of day, put forward by hand."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Tokens:
    return Tokens(tmp_path_factory.mktemp("tokens") / "tokens.json", clock)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tokens: Tokens) -> Iterator[Server]:
    runs = RunsFolder(tmp_path_factory.mktemp("made") / "runs")
    for name in ("plain", "other"):
        searched(runs, name=name, n=12)
    with running_server(runs, name=TEAM, tokens=tokens) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with running_chromium(tmp_path_factory.mktemp("downloads")) as browser:
        yield browser


@pytest.fixture
def chromium(browser: Chromium) -> Chromium:
    """The browser, signed in nowhere; the last test's page is left, which would lead to signing in by itself."""
    browser.open("about:blank")
    browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    return browser


def here(chromium: Chromium) -> str:
    """The page's path and query."""
    url = urlsplit(chromium.driver.current_url)
    return f"{url.path}?{url.query}" if url.query else url.path


def sign_in(chromium: Chromium, token: str) -> None:
    chromium.find("input[name=token]").send_keys(token, Keys.ENTER)


def test_a_token_leads_on_to_the_page_that_was_wanted(chromium: Chromium, server: Server, tokens: Tokens) -> None:
    wanted = "/compare?runs=plain-1&runs=other-1"
    chromium.open(server.url + wanted)
    assert chromium.text("h1") == "Sign in"
    assert not chromium.all("[role=alert]")
    sign_in(chromium, "nas_wrong")
    chromium.until(lambda: chromium.text("[role=alert]") == UNKNOWN)
    field = chromium.find("input[name=token]")
    assert field.get_attribute("aria-invalid") == "true"
    assert field.get_attribute("value") == ""  # it is not sent back
    sign_in(chromium, tokens.make("ada", lifetime_s=HOUR_S))
    chromium.until(lambda: here(chromium) == wanted)
    assert chromium.text("h1") == "Compare runs"
    assert chromium.run("return document.cookie") == ""
    # Without TLS, browsers leave out one of the headers that keep other sites away, and say so.
    assert not [text for text in chromium.complaints() if "Cross-Origin-Opener-Policy" not in text]


def test_signing_out_leaves_nothing_behind(chromium: Chromium, server: Server, tokens: Tokens) -> None:
    chromium.open(server.url)
    sign_in(chromium, tokens.make("bob", lifetime_s=HOUR_S))
    chromium.until(lambda: chromium.text("h1") == "Runs")
    chromium.click("form[action='/logout'] button")
    chromium.until(lambda: chromium.text("h1") == "Sign in")
    assert not chromium.all("form[action='/logout']")
    chromium.driver.back()
    chromium.until(lambda: chromium.text("h1") == "Sign in")
    chromium.open(f"{server.url}/runs/plain-1")
    assert chromium.text("h1") == "Sign in"


def test_the_page_of_an_unknown_address_keeps_the_person_and_leads_to_the_runs(
    chromium: Chromium, server: Server, tokens: Tokens
) -> None:
    chromium.open(f"{server.url}/rnus")
    sign_in(chromium, tokens.make("ida", lifetime_s=HOUR_S))
    chromium.until(lambda: chromium.text("h1") == "Not found")
    assert chromium.text(".error .detail") == (
        "there is no page at this address; it may be mistyped, or what it showed was deleted"
    )
    assert chromium.text(".person") == "ida member"
    chromium.click(".error .button")
    chromium.until(lambda: chromium.text("h1") == "Runs")


def test_changes_are_made_by_whom_signed_in(chromium: Chromium, server: Server, tokens: Tokens) -> None:
    chromium.open(f"{server.url}/submit")
    sign_in(chromium, tokens.make("cleo", lifetime_s=HOUR_S))
    chromium.until(lambda: chromium.text("#job-state") == "This job can be submitted.")
    chromium.click("#send")
    chromium.until(lambda: here(chromium) == "/runs/digits-cnn-1")
    assert server.service.runs.summary("digits-cnn-1").submitter == "cleo"


def test_an_open_page_leads_to_signing_in_once_its_token_has_expired(
    chromium: Chromium, server: Server, tokens: Tokens, clock: Clock
) -> None:
    chromium.open(f"{server.url}/?kind=search")
    sign_in(chromium, tokens.make("dora", lifetime_s=HOUR_S))
    chromium.until(lambda: chromium.text("h1") == "Runs")
    clock.ahead_s += 2 * HOUR_S
    chromium.until(lambda: chromium.text("h1") == "Sign in")  # the page looks for news by itself
    assert here(chromium) == "/login?next=/%3Fkind%3Dsearch"
    sign_in(chromium, tokens.make("eve", lifetime_s=HOUR_S))
    chromium.until(lambda: here(chromium) == "/?kind=search")


def test_what_is_asked_of_the_api_by_a_page_leads_there_too(
    chromium: Chromium, server: Server, tokens: Tokens, clock: Clock
) -> None:
    chromium.open(f"{server.url}/submit?recipe=fashion-mnist-vit")
    sign_in(chromium, tokens.make("fay", lifetime_s=HOUR_S))
    chromium.until(lambda: chromium.text("#job-state") == "This job can be submitted.")
    clock.ahead_s += 2 * HOUR_S
    chromium.click("#send")
    chromium.until(lambda: chromium.text("h1") == "Sign in")
    assert here(chromium).startswith("/login?next=")
    sign_in(chromium, tokens.make("gil", lifetime_s=HOUR_S))
    chromium.until(lambda: here(chromium) == "/submit?recipe=fashion-mnist-vit")


def test_on_a_phone_the_name_and_the_button_stand_in_one_line_below_the_links(
    chromium: Chromium, server: Server, tokens: Tokens
) -> None:
    for name in ("hal", "maximiliane-von-und-zu-langenscheidt-hohenstein"):
        chromium.look(width=390)
        chromium.open(server.url)
        sign_in(chromium, tokens.make(name, lifetime_s=HOUR_S, role=Role.ADMINISTRATOR))
        chromium.until(lambda: chromium.text("h1") == "Runs")
        nav, person, button = (chromium.find(f".top {part}").rect for part in ("nav", ".person", "button"))
        width = chromium.run("return document.documentElement.clientWidth")
        assert nav["width"] == width - 2 * 16
        assert nav["height"] < 75  # two lines of links
        assert person["y"] > nav["y"] + nav["height"]
        assert person["y"] < button["y"] + button["height"] / 2 < person["y"] + person["height"]
        assert person["x"] == nav["x"]
        assert button["x"] + button["width"] == pytest.approx(width - 16, abs=1)  # whole pixels
        chromium.click("form[action='/logout'] button")
        chromium.until(lambda: chromium.text("h1") == "Sign in")
    chromium.look()
