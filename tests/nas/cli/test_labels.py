"""`nas label`, and the tags that `nas runs` shows: of runs in a folder, and of runs on a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.engine.store.folder import RunsFolder
from nas.engine.store.labels import Labels, read_labels
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from tests.nas.commands import Shell
from tests.nas.service.client.served import served
from tests.nas.service.made_runs import Jobs, searched, trained


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


@pytest.fixture
def runs(tmp_path: Path) -> RunsFolder:
    return RunsFolder(tmp_path / "runs")


def test_labels_are_shown_and_changed(shell: Shell, runs: RunsFolder) -> None:
    run = searched(runs)
    assert shell.nas("label", "made-1").out == "made-1: no tags\n"
    assert shell.nas("label", "made-1", "--add", "a", "--add", "b", "--note", "why").out == "made-1: a, b\nwhy\n"
    assert shell.nas("label", "made-1", "--remove", "a", "--json").data == {
        "run": "made-1", "tags": ["b"], "note": "why",
    }  # fmt: skip
    assert read_labels(run) == Labels(("b",), "why")
    assert shell.nas("label", "made-1", "--add", "two words").error == "labels.invalid"
    assert shell.nas("label", "made-2").error == "run.unknown"


def test_runs_are_listed_with_their_tags(shell: Shell, runs: RunsFolder) -> None:
    searched(runs)
    trained(runs)
    assert "tags" not in shell.nas("runs").out
    shell.nas("label", "made-1", "--add", "paper")
    assert [row["tags"] for row in shell.nas("runs", "--json").data] == [["paper"], []]
    assert [row["run"] for row in shell.nas("runs", "--tag", "paper", "--json").data] == ["made-1"]
    assert "paper" in shell.nas("runs").out
    assert "other" in shell.nas("runs", "--tag", "other").out


def test_runs_of_a_server_are_labelled(shell: Shell, runs: RunsFolder) -> None:
    run = searched(runs)
    settings = ServiceSettings(runs)
    state = ServiceState.open(settings.database)
    with served(Service(settings, state, Jobs())) as url:
        there = ("--server", url)
        assert shell.nas("label", "made-1", "--add", "a", "--note", "why", *there).out == "made-1: a\nwhy\n"
        assert shell.nas("label", "made-1", "--note", "", *there).out == "made-1: a\n"
        assert read_labels(run) == Labels(("a",), "")
    state.close()


def test_several_runs_are_labelled_at_once_or_none(shell: Shell, runs: RunsFolder) -> None:
    first, second = searched(runs), trained(runs)
    assert shell.nas("label", "made-1", "supernet-1", "--add", "paper").out == "made-1: paper\nsupernet-1: paper\n"
    assert [row["tags"] for row in shell.nas("label", "made-1", "supernet-1", "--json").data] == [["paper"], ["paper"]]
    shell.nas("label", "made-1", "--remove", "paper")
    assert shell.nas("label", "supernet-1", "made-1", "--remove", "paper").error == "labels.invalid"
    assert [read_labels(run).tags for run in (first, second)] == [(), ("paper",)]
