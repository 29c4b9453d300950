"""The runs folder, while others change it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nas.errors import UnknownNameError
from nas.store.folder import RunFolder, RunsFolder
from nas.store.opening import open_store


def test_a_run_that_is_removed_while_runs_are_listed_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = RunsFolder(tmp_path)
    for _ in range(3):
        open_store(runs.create("tiny", "job"), create=True, driver=True).close()
    assert [folder.id for folder in runs.list()] == ["tiny-1", "tiny-2", "tiny-3"]

    def holds_a_run(folder: RunFolder) -> bool:
        held = folder.database.is_file()
        if folder.id == "tiny-2" and held:
            shutil.rmtree(folder.path)
        return held

    monkeypatch.setattr(RunFolder, "holds_a_run", property(holds_a_run))
    monkeypatch.setattr(Path, "exists", lambda path: True)  # it was, a moment ago
    assert [folder.id for folder in runs.list()] == ["tiny-2", "tiny-1", "tiny-3"]
    assert [folder.id for folder in runs.list()] == ["tiny-1", "tiny-3"]
    assert not runs.holds("tiny-2")
    with pytest.raises(UnknownNameError, match="tiny-1, tiny-3"):
        runs.get("tiny-2")


def test_a_name_that_leaves_the_folder_is_no_run(tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path / "runs")
    open_store(runs.create("tiny", "job"), create=True, driver=True).close()
    outside = RunsFolder(tmp_path)
    open_store(outside.create("other", "job"), create=True, driver=True).close()
    assert runs.holds("tiny-1")
    for name in ("../other-1", str(tmp_path / "other-1"), "..", ".", "", "tiny-1/"):
        assert not runs.holds(name)
