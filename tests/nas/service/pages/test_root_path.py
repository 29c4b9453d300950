"""A server below a path of a proxy: every link, redirect, cookie, script, stream and reference goes below it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient
from selenium.webdriver.common.keys import Keys

from nas.engine.store.folder import RunsFolder
from nas.errors import NasError
from nas.service.client import NasClient
from nas.service.http.app import create_app
from nas.service.http.tokens import Tokens
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.service.conftest import HERE
from tests.nas.service.made_runs import Jobs, searched
from tests.nas.service.pages.chromium import TEAM, Chromium, running_chromium
from tests.nas.service.pages.running import running_server
from tests.nas.service.stripping_proxy import stripping_proxy

PATH = "/nas"
PAGES = ("/", "/submit", "/compare?runs=made-1&runs=made-2", "/hardware", "/hardware/cpu-1-thread", "/storage", "/docs",
         "/problems", "/runs/made-1", "/runs/made-1/evaluations", "/login", "/missing")  # fmt: skip
_LINK = re.compile(r'\s(?:href|src|action)="([^"]*)"')


@pytest.fixture
def below(runs: RunsFolder) -> Iterator[TestClient]:
    """A client of a server that is below a path, and sees requests without it."""
    for _ in range(2):
        searched(runs, n=12)
    settings = ServiceSettings(runs, root_path=PATH)
    state = ServiceState.open(settings.database)
    app = create_app(Service(settings, state, Jobs()), settings)
    with TestClient(app, base_url=HERE, follow_redirects=False) as client:
        yield client
    state.close()


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_go_below_the_path(below: TestClient, page: str) -> None:
    answer = below.get(page, headers={"Accept": "text/html"})
    links = [link for link in _LINK.findall(answer.text) if not link.startswith(("#", "?", "data:", "https:"))]
    assert len(links) > 3
    assert [link for link in links if not link.startswith(f"{PATH}/")] == []
    for link in {link.replace("&amp;", "&") for link in links if "/logout" not in link and "${" not in link}:
        assert below.get(link, headers={"Accept": "*/*"}).status_code == 200, link  # as by a proxy that keeps the path


def test_references_of_the_api_go_below_the_path(below: TestClient) -> None:
    described = below.get("/api/v1/openapi.json").json()
    assert described["servers"] == [{"url": PATH}]
    missing = below.get("/api/v1/runs/missing-1").json()
    assert (missing["type"], missing["instance"]) == (
        f"{PATH}/problems#run.unknown",
        f"{PATH}/api/v1/runs/missing-1",
    )
    made = below.post("/api/v1/runs", json={"job": SMALL_JOB})
    assert made.headers["location"] == f"{PATH}/api/v1/runs/small-1"
    assert f"{HERE}{PATH}/api/v1" in below.get("/docs").text


@pytest.mark.parametrize("path", ["nas", "/nas//x", "/n s", "//evil.example", '/"'])
def test_a_path_that_is_none_is_rejected(runs: RunsFolder, path: str) -> None:
    with raises("server.settings-invalid", path):
        ServiceSettings(runs, root_path=path)


@pytest.mark.slow
def test_a_browser_and_a_client_behind_a_proxy(tmp_path_factory: pytest.TempPathFactory) -> None:
    runs = RunsFolder(tmp_path_factory.mktemp("made") / "runs")
    searched(runs, n=12)
    tokens = Tokens(tmp_path_factory.mktemp("tokens") / "tokens.json")
    token = tokens.make("ada", lifetime_s=3600.0)
    with (
        running_server(runs, name=TEAM, tokens=tokens, root_path=PATH) as server,
        stripping_proxy(server.url, PATH) as proxy,
        running_chromium(tmp_path_factory.mktemp("downloads")) as chromium,
    ):
        local = f"http://127.0.0.1:{urlsplit(proxy).port}"
        with NasClient(f"{local}{PATH}", token) as client:
            assert client.submit(SMALL_JOB).run == "small-1"
            assert client.runs().total == 2
            assert next(iter(client.watch("made-1"))).run == "made-1"
            with pytest.raises(NasError):
                client.status("missing-1")
        use_pages(chromium, proxy + PATH, token)
        assert httpx.get(urljoin(local, "/api/v1/health")).status_code == 404  # the proxy's other site


def use_pages(chromium: Chromium, url: str, token: str) -> None:
    def here() -> str:
        return str(chromium.run("return location.pathname + location.search"))

    chromium.open(f"{url}/runs/made-1")
    assert here() == f"{PATH}/login?next=/runs/made-1"
    chromium.find("input[name=token]").send_keys(token, Keys.ENTER)
    chromium.until(lambda: here() == f"{PATH}/runs/made-1")
    (cookie,) = chromium.driver.get_cookies()
    assert cookie["path"] == PATH
    chromium.until(lambda: chromium.all("#front-chart .main-svg"))  # plotly's script and the data of the chart
    chromium.click("nav a[href$='/submit']")
    chromium.until(lambda: chromium.text("#job-state") == "This job can be submitted.")
    chromium.click("#send")
    chromium.until(lambda: here() == f"{PATH}/runs/digits-cnn-1")
    chromium.click("nav a.brand")
    chromium.until(lambda: chromium.text("h1") == "Runs")
    complaints = [text for text in chromium.complaints() if "Cross-Origin-Opener-Policy" not in text]
    assert complaints == []
    chromium.click("header form button")
    chromium.until(lambda: here() == f"{PATH}/login")
    assert chromium.driver.get_cookies() == []
