"""The shipped sentinels are those that the package builds, and their outputs vary."""

from __future__ import annotations

from hardware_profiles.measuring.session import read_call, read_sentinel
from hardware_profiles.runtime import run_model
from tests.hardware_profiles.sentinels import build_call, build_sentinel


def test_the_shipped_files_equal_the_built_ones() -> None:
    assert read_sentinel().model == build_sentinel()
    assert read_call().model == build_call()


def test_the_call_does_nearly_nothing() -> None:
    graph = read_call()
    (output,) = run_model(graph.model, *graph.inputs)
    assert output.tolist() == [[-1.0]]


def test_its_output_varies_and_has_no_denormals() -> None:
    graph = read_sentinel()
    (output,) = run_model(graph.model, *graph.inputs)
    assert output.shape == (1, 16, 32, 32)
    assert output.std() > 1e-3  # arithmetic on denormal numbers would be slower than on others
