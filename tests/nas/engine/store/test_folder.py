"""The runs folder, while others change it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nas.engine.run_listing import run_rows
from nas.engine.store.folder import RunFolder, RunsFolder, write_atomically
from nas.engine.store.opening import open_store
from nas.errors import UnknownNameError
from tests.errors import raises


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


def test_a_run_whose_folder_was_renamed_is_listed_and_not_opened(tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path)
    open_store(runs.create("tiny", "job"), create=True, driver=True).close()
    (tmp_path / "tiny-1").rename(tmp_path / "other name")
    with raises("run.misnamed", "other name", "rename the folder"):
        runs.get("other name")
    (row,) = run_rows(runs)
    assert (row.run, row.status, row.next) == ("other name", "damaged", None)
    assert "rename the folder" in row.reason
    with raises("run.unknown", "'other nam'") as caught:
        runs.get("other nam")
    assert "did you mean" not in str(caught.value)


def test_a_folder_that_does_not_exist_is_the_error_of_a_run_in_it(tmp_path: Path) -> None:
    for name in ("nowhere", "x" * 5000):
        with raises("run.unknown", "'tiny-1'", f"no runs folder {tmp_path / name}") as caught:
            RunsFolder(tmp_path / name).get("tiny-1")
        assert "Known" not in str(caught.value)


def test_a_name_that_leaves_the_folder_is_no_run(tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path / "runs")
    open_store(runs.create("tiny", "job"), create=True, driver=True).close()
    outside = RunsFolder(tmp_path)
    open_store(outside.create("other", "job"), create=True, driver=True).close()
    assert runs.holds("tiny-1")
    for name in ("../other-1", str(tmp_path / "other-1"), "..", ".", "", "tiny-1/"):
        assert not runs.holds(name)


def test_a_run_without_its_database_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "tiny-1").mkdir()
    with raises("run.unknown", "'tiny-1'", "run.db"):
        RunsFolder(tmp_path).get("tiny-1")


def test_a_file_that_can_be_neither_written_nor_removed(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300)  # longer than a name may be, as on a read-only file system both steps fail
    with raises("file.not-writable", path.name):
        write_atomically(path, b"text")
