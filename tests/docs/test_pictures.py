"""The pictures of the concepts are drawn from a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.pictures import make
from tests.docs.blocks import ROOT


@pytest.mark.slow
def test_the_pictures_are_drawn_from_a_run(
    first_tutorial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", ["make", str(first_tutorial / "runs"), "digits-cnn-1"])
    make.main()
    drawn = {path.name for path in tmp_path.glob("*.svg")}
    assert drawn == {path.name for path in (ROOT / "docs" / "pictures").glob("*.svg")}
    assert all(path.read_text().rstrip().endswith("</svg>") for path in tmp_path.glob("*.svg"))
