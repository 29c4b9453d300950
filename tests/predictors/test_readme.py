"""The example of the README predicts within its intervals."""

from __future__ import annotations

import numpy as np
import pytest

from tests.readme_blocks import run_readme


def test_the_example_predicts_new_rows(capsys: pytest.CaptureFixture[str]) -> None:
    names = run_readme("predictors")
    found, truth = names["found"], names["latency_ms"][30:]
    assert np.abs(found.mean / truth - 1).mean() < 0.1  # noise of 2 %, and an interval of 90 %
    assert ((found.low <= truth) & (truth <= found.high)).mean() >= 0.7
    assert "ridge" in capsys.readouterr().out
