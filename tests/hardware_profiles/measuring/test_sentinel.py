"""The shipped sentinel is the one that the package builds, and its output varies."""

from __future__ import annotations

from hardware_profiles.measuring.sentinel import build_sentinel
from hardware_profiles.measuring.session import read_sentinel
from hardware_profiles.runtime import run_model


def test_the_shipped_file_equals_the_built_one() -> None:
    assert read_sentinel().model == build_sentinel()


def test_its_output_varies_and_has_no_denormals() -> None:
    graph = read_sentinel()
    (output,) = run_model(graph.model, *graph.inputs)
    assert output.shape == (1, 16, 32, 32)
    assert output.std() > 1e-3  # arithmetic on denormal numbers would be slower than on others
