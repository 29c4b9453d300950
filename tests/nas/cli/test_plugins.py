"""`nas plugins`: what is installed, where it comes from, and whether it loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nas.commands import Shell
from tests.plugin_packages import PluginPackages

GOOD = """
from nas.engine.evaluation.metric import Metric
class Energy(Metric):
    unit, goal = "mJ", "minimize"
    def measure(self, network): return 1.0, 0.0
class Empty: ...
"""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


def test_plugins_are_listed_with_their_packages_and_faults(shell: Shell, plugin_packages: PluginPackages) -> None:
    assert "no installed package" in shell.nas("plugins").out
    plugin_packages.install(
        "good", {"good": GOOD}, version="1.5",
        entries={"metrics": {"energy": "good:Energy", "empty": "good:Empty"}, "search": {"guided": "good:Energy"}},
    )  # fmt: skip
    plugin_packages.install(
        "bad", {"bad": "import not_there"}, entries={"families": {"bad": "bad:F", "gone": "gone:F"}}
    )
    found = {one["name"]: one for one in shell.nas("plugins", "--json").data}
    assert found["energy"] == {
        "kind": "metrics", "name": "energy", "target": "good:Energy", "package": "good", "version": "1.5", "error": "",
    }  # fmt: skip
    assert "unit" in found["empty"]["error"]
    assert "shipped" in found["guided"]["error"]
    assert "not_there" in found["bad"]["error"]
    assert "no module gone" in found["gone"]["error"]
    answer = shell.nas("plugins")
    assert answer.code == 0
    assert "good 1.5" in answer.out
    assert f"bad: {found['bad']['error']}" in answer.out
