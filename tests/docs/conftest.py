"""What the pages share: the finished run of the first tutorial."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from tests.docs.blocks import ROOT, read
from tests.docs.page_runner import PageRunner

FIRST = ROOT / "docs" / "tutorials" / "first-front.md"


@pytest.fixture(scope="session")
def first_tutorial(shared_folder: Path) -> Path:
    """A folder with the job file and the run that the first tutorial makes, executed once in all processes."""
    made, folder = shared_folder / "first-tutorial", shared_folder / "first-tutorial.page"
    with FileLock(shared_folder / "first-tutorial.lock"):
        if not made.exists():
            folder.mkdir()
            with PageRunner(folder) as runner:
                runner.run_page(read(FIRST))
            (made / "runs").mkdir(parents=True)
            shutil.copy(folder / "digits-cnn.yaml", made)
            shutil.copytree(folder / "runs" / "digits-cnn-1", made / "runs" / "digits-cnn-1")
    return made
