"""Signing in with a provider in a real browser, below a path of a proxy."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from nas.engine.store.folder import RunsFolder
from nas.service.sign_on.settings import RoleRule, SignOnSettings
from tests.nas.service.made_runs import searched
from tests.nas.service.pages.chromium import running_chromium
from tests.nas.service.pages.running import running_server
from tests.nas.service.sign_on.openid_provider import CLIENT, SECRET, running_provider
from tests.nas.service.stripping_proxy import stripping_proxy

PATH = "/nas"


@pytest.mark.slow
def test_a_person_signs_in_reads_a_run_and_signs_out(tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path / "runs")
    searched(runs, n=12)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        free_port = bound.getsockname()[1]
    public_url = f"http://127.0.0.1:{free_port}{PATH}"
    with running_provider() as provider:
        provider.server.client.redirect_uri = f"{public_url}/login/callback"
        provider.person.claims["groups"] = ["nas"]
        rules = (RoleRule.parse("groups=nas:member"),)
        sign_on = SignOnSettings(provider.issuer, CLIENT, public_url, SECRET, roles=rules)
        with (
            running_server(runs, root_path=PATH, sign_on=sign_on) as server,
            stripping_proxy(server.url, PATH, port=free_port),
            running_chromium(tmp_path) as chromium,
        ):
            chromium.open(f"{public_url}/runs/made-1")
            assert chromium.text("h1") == "Sign in"
            chromium.click(".login a.button")
            chromium.until(lambda: chromium.driver.current_url == f"{public_url}/runs/made-1")
            chromium.until(lambda: chromium.all("#front-chart .main-svg"))
            assert chromium.complaints() == []
            (cookie,) = chromium.driver.get_cookies()
            assert (cookie["path"], cookie["sameSite"], cookie["httpOnly"]) == (PATH, "Strict", True)
            chromium.click("header form button")
            chromium.until(lambda: chromium.text("h1") == "Sign in")
            assert chromium.driver.get_cookies() == []
            provider.person.claims["groups"] = ["others"]
            chromium.click(".login a.button")
            chromium.until(lambda: "has no role on this server" in chromium.text("main"))
