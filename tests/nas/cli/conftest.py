"""A finished run of the small job, and shells for the commands of a user."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from tests.nas.commands import SMALL_JOB, Shell, output_of


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


@pytest.fixture(scope="session")
def searched(shared_folder: Path) -> Path:
    """A folder with the job and its finished run ``small-1``."""
    folder = shared_folder / "searched"
    with FileLock(shared_folder / "searched.lock"):
        if not (folder / "search.json").exists():
            folder.mkdir(exist_ok=True)
            (folder / "job.yaml").write_text(SMALL_JOB)
            printed = output_of(folder, "search", "job.yaml", "--inline", "--json")
            (folder / "search.json").write_text(printed)
    return folder


@pytest.fixture
def after(searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell in a copy of the folder with the finished run."""
    shutil.copytree(searched, tmp_path / "work")
    return Shell(tmp_path / "work", capsys, monkeypatch)
