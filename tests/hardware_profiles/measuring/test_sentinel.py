"""The shipped sentinels are those that the package builds, and their outputs vary."""

from __future__ import annotations

import pytest

from hardware_profiles.base import Graph
from hardware_profiles.measuring.session import read_call, read_sentinel, read_small
from hardware_profiles.runtime import run_model
from tests.hardware_profiles.sentinels import build_call, build_sentinel, build_small


def test_the_shipped_files_equal_the_built_ones() -> None:
    assert read_sentinel().model == build_sentinel()
    assert read_small().model == build_small()
    assert read_call().model == build_call()


def test_the_call_does_nearly_nothing() -> None:
    graph = read_call()
    (output,) = run_model(graph.model, *graph.inputs)
    assert output.tolist() == [[-1.0]]


@pytest.mark.parametrize(("graph", "shape"), [(read_sentinel(), (1, 16, 32, 32)), (read_small(), (1, 96, 1, 1))])
def test_their_outputs_vary_and_have_no_denormals(graph: Graph, shape: tuple[int, ...]) -> None:
    (output,) = run_model(graph.model, *graph.inputs)
    assert output.shape == shape
    assert output.std() > 1e-3  # arithmetic on denormal numbers would be slower than on others
