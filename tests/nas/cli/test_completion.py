"""Shells complete runs, recipes, profiles and numbers of networks, without loading what takes long."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nas.engine.store.folder import RunsFolder
from nas.runs.run import Run
from tests.nas.service.made_runs import searched, trained

Complete = Callable[[str], list[str]]
_ROOT = Path(__file__).parents[3]


@pytest.fixture
def complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Complete:
    """The words that bash is offered for a line; its last word is completed."""
    from nas.cli.commands import app

    def words(line: str) -> list[str]:
        parts = line.split(" ")
        monkeypatch.setenv("_NAS_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(parts) - 1))
        with pytest.raises(SystemExit):
            app(prog_name="nas")
        return capsys.readouterr().out.split()

    monkeypatch.chdir(tmp_path)
    return words


def test_commands_runs_recipes_and_profiles_are_completed(complete: Complete, tmp_path: Path) -> None:
    runs, other = RunsFolder(tmp_path / "runs"), RunsFolder(tmp_path / "other")
    for folder in (runs, other):
        folder.check_writable()
    trained(runs)
    searched(runs, name="small")
    searched(other, name="else")
    assert complete("nas export-") == ["export-transformers", "export-study"]
    assert complete("nas show ") == ["supernet-1", "small-1"]
    assert complete("nas show sma") == ["small-1"]
    assert complete("nas export --runs other ") == ["else-1"]
    assert complete("nas init own-im") == ["own-image-labels", "own-image-model", "own-images"]
    assert complete("nas profile a.onnx --profile cpu-1-thread-") == ["cpu-1-thread-openvino", "cpu-1-thread-batch-16"]
    assert complete("nas show --runs gone ") == []


def test_numbers_of_the_networks_of_a_run_are_completed(complete: Complete, tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path / "runs")
    runs.check_writable()
    searched(runs, name="small")
    evaluated = Run.open(runs, "small-1").report.numbers
    numbers = complete("nas export small-1 --select ")
    assert numbers == [f"network={number}" for number in sorted(evaluated.values())]
    assert complete("nas show small-1 --select network=1") == [text for text in numbers if text.startswith("network=1")]
    assert complete("nas export gone-1 --select ") == []
    runs.get("small-1").database.write_bytes(b"damaged")
    assert complete("nas export small-1 --select ") == []


def test_completion_loads_nothing_heavy(tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path / "runs")
    runs.check_writable()
    searched(runs, name="small")
    watched = "[name for name in ('numpy', 'sqlalchemy', 'torch') if name in sys.modules]"
    code = (
        f"import atexit, sys; sys.argv = ['nas']; atexit.register(lambda: print({watched}, file=sys.stderr)); "
        "from nas.cli import main; main()"
    )
    line = {
        "_NAS_COMPLETE": "complete_bash",
        "COMP_WORDS": "nas export small-1 --select ",
        "COMP_CWORD": "4",
        "PYTHONPATH": str(_ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **line},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "network=1" in done.stdout.split()
    assert done.stderr == "[]\n"
