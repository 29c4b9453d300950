"""axe-core, which looks for what keeps people out of a page: npm's, or else the old one of axe-selenium-python."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tests.nas.service.pages.chromium import Chromium

VERSION = "4.14.1"
_KEPT = Path(__file__).parents[4] / ".cache" / f"axe-core-{VERSION}.js"
_SCRIPT = "package/axe.min.js"
_GRAVE = ("serious", "critical")


@cache
def missing() -> str:
    """Why npm's axe-core is not there; "" where it is. npm is asked for it once, and checks that it is what was published."""
    if _KEPT.is_file():
        return ""
    if shutil.which("npm") is None:
        return "npm is not installed"
    _KEPT.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_KEPT.parent) as folder:
        command = ["npm", "pack", "--silent", f"axe-core@{VERSION}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        if done.returncode:
            return f"npm could not fetch axe-core: {done.stderr.strip()[-300:]}"
        [packed] = Path(folder).glob("*.tgz")
        with tarfile.open(packed) as archive:
            archive.extract(_SCRIPT, folder, filter="data")
        (Path(folder) / _SCRIPT).replace(_KEPT)
    return ""


@cache
def script() -> str:
    """The source of axe-core."""
    if missing():
        return (files("axe_selenium_python") / "node_modules" / "axe-core" / "axe.min.js").read_text()
    return _KEPT.read_text()


def found(chromium: Chromium, rule: str = "") -> dict[str, Any]:
    """What axe-core finds in the page that is open: its version, and grave violations as (rule, elements).

    Args:
        rule: the only one to look for; "" for all.
    """
    chromium.run(script())
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rule:
        options["runOnly"] = {"type": "rule", "values": [rule]}
    results = chromium.driver.execute_async_script("axe.run(arguments[0]).then(arguments[1])", options)
    grave = [v for v in results["violations"] if v["impact"] in _GRAVE]
    return {
        "version": results["testEngine"]["version"],
        "grave": [(v["id"], [node["html"] for node in v["nodes"]]) for v in grave],
    }
