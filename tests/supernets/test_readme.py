"""The example of the README trains a supernet on digits, extracts a network and exports it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tests.readme_blocks import run_readme


@pytest.mark.slow
def test_the_example_trains_extracts_and_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_readme("supernets")
    assert names["accuracy"] > 0.8  # ten classes
    session = ort.InferenceSession("digits.onnx")
    images = names["data"].test.inputs
    (outputs,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    np.testing.assert_allclose(outputs, names["network"](images).detach().numpy(), atol=1e-4)  # batch norms are folded
