"""The example of the README measures and compares models."""

from __future__ import annotations

from pathlib import Path

import pytest

from hardware_profiles import LatencyMeasurement
from nas.plugins.testing.onnx_networks import conv_net
from tests.readme_blocks import run_readme


def test_the_example_measures_and_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(conv_net())
    Path("larger.onnx").write_bytes(conv_net(64, 6))
    names = run_readme("hardware_profiles")
    assert isinstance(names["result"], LatencyMeasurement)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("model.onnx ")
    assert lines[2].startswith("larger.onnx ")
    assert lines[2].endswith("times model.onnx")
