"""Styles and scripts come from installed packages, and are kept by browsers as long as they do not change."""

from __future__ import annotations

import re
from importlib.resources import files

from nas.service.pages import assets
from tests.nas.service.pages.conftest import Browser

STATIC = files("nas.service.pages") / "static"


def test_plotly_is_the_installed_packages(browser: Browser) -> None:
    answer = browser.get(assets.address("plotly"))
    assert answer.status_code == 200
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in answer.headers["cache-control"]
    hint, _, script = answer.content.partition(b"\n")
    assert hint == b"//# allFunctionsCalledOnLoad"
    assert script == (files("plotly") / "package_data" / "plotly.min.js").read_bytes()


def test_own_files_are_served_as_they_are_with_their_type(browser: Browser) -> None:
    for file in STATIC.iterdir():
        answer = browser.get(assets.address(file.name))
        assert answer.content == file.read_bytes()
        assert answer.headers["content-type"].partition(";")[0] in ("text/css", "text/javascript", "image/svg+xml")
        assert "immutable" in answer.headers["cache-control"]


def test_an_address_of_another_version_is_not_kept(browser: Browser) -> None:
    assert browser.get("/static/0123456789ab/runs.js").headers["cache-control"] == "no-cache"


def test_scripts_import_only_files_that_are_there_and_compile_nothing() -> None:
    for file in STATIC.iterdir():
        text = file.read_text()
        assert "://" not in text.replace("http://www.w3.org/2000/svg", ""), f"{file.name} names an address"
        if file.name.endswith(".js"):
            for name in re.findall(r'^import [^"]*"([^"]+)"', text, re.MULTILINE):
                assert (STATIC / name).is_file(), f"{file.name} imports {name}"
            assert not re.search(r"\b(eval|Function|innerHTML|insertAdjacentHTML|document\.write)\b", text), file.name
