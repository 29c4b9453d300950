"""Debian's Chromium without a screen, driven by tests; what it complains about is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service as DriverService
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM, DRIVER = "chromium", "chromedriver"
TEAM = "nas.test"
"""A name of this machine for the browser: none that it trusts more than others, as it does localhost."""
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--force-color-profile=srgb",
    f"--host-resolver-rules=MAP {TEAM} 127.0.0.1",
)
_PATIENCE_S = 60.0

Theme = Literal["light", "dark"]


class Chromium:
    """A browser with one window, and the folder of what it downloads."""

    def __init__(self, driver: webdriver.Chrome, downloads: Path) -> None:
        self.driver, self.downloads = driver, downloads

    def look(self, *, width: int = 1280, theme: Theme = "light") -> None:
        """Takes on a window's width, in CSS pixels, and a theme."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def delay_requests(self, seconds: float) -> None:
        """Makes every answer of a server take at least this long."""
        self.driver.execute_cdp_cmd("Network.enable", {})
        conditions = {"offline": False, "latency": 1000 * seconds, "downloadThroughput": -1, "uploadThroughput": -1}
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)

    def open(self, url: str) -> None:
        """Opens a page; complaints of the last one are forgotten, which may still ask a server that has ended."""
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(url)

    def find(self, selector: str) -> WebElement:
        """The first element, once it is there."""
        return self.until(lambda: self.driver.find_elements(By.CSS_SELECTOR, selector))[0]

    def click(self, selector: str) -> None:
        """Clicks the first element, once it is there; the page may put a new one in its place meanwhile."""

        def clicked() -> bool:
            try:
                self.find(selector).click()
            except StaleElementReferenceException:
                return False
            return True

        self.until(clicked)

    def click_at(self, x: float, y: float) -> None:
        """Clicks a place of the window, in CSS pixels."""
        mouse = ActionBuilder(self.driver)
        mouse.pointer_action.move_to_location(round(x), round(y)).click()
        mouse.perform()

    def all(self, selector: str) -> list[WebElement]:
        """Elements that are there now."""
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def text(self, selector: str) -> str:
        """What the first element says; scripts of the page may replace it in between."""
        found = self.run(f"return document.querySelector({selector!r})?.textContent ?? ''")
        return " ".join(str(found).split())

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script gives back."""
        return self.driver.execute_script(script, *arguments)

    def until(self, holds: Any) -> Any:
        """What a function gives, once that is true."""
        return WebDriverWait(self.driver, _PATIENCE_S, poll_frequency=0.05).until(lambda _: holds())

    def downloaded(self, name: str) -> Path:
        """A file that a page gives to download, once it has its content: Chromium reserves its name by an empty one."""
        path = self.downloads / name
        self.until(lambda: path.is_file() and path.stat().st_size)
        return path

    def complaints(self) -> list[str]:
        """Errors of scripts, refused by the security policy or not found."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@contextmanager
def running_chromium(downloads: Path) -> Iterator[Chromium]:
    """A browser that keeps files in a folder; skips where none is installed."""
    browser, driver = shutil.which(CHROMIUM), shutil.which(DRIVER)
    if browser is None or driver is None:
        pytest.skip("no Chromium is installed (Debian's packages chromium and chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for option in _OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=DriverService(driver))
    allowed = {"behavior": "allow", "downloadPath": str(downloads)}  # several without a question
    started.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
    try:
        yield Chromium(started, downloads)
    finally:
        started.quit()
