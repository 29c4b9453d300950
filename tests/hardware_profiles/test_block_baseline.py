"""The prefix of a measured block changes no value, and the baseline consists of it alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from hardware_profiles.block_baseline import baseline_model, needs_prefix, with_prefix
from hardware_profiles.runtime import run_model
from nas.plugins.testing.onnx_networks import conv_net, declare
from tests.onnx_networks import identity


@pytest.mark.parametrize("shape", [(8, 5, 5), (3, 5, 5), (7,), (64,)])
def test_a_baseline_returns_its_input(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    model = baseline_model(shape, "x")
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    (y,) = run_model(model, {"x": x}, batch_size=2)
    np.testing.assert_array_equal(y, x)


def test_a_baseline_of_token_ids_of_any_length() -> None:
    ids = np.random.default_rng(0).integers(0, 99, (2, 7))
    model = baseline_model(("tokens",), "x", integer=True)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    (same,) = run_model(model, {"x": ids})
    np.testing.assert_array_equal(same, ids)


def test_a_block_behind_the_convolution_computes_the_same() -> None:
    block = identity(declare("x", ["batch", 8, 5, 5]))
    block.graph.node.append(onnx.helper.make_node("Add", ["x", "x-out"], ["twice"]))
    block.graph.node.append(onnx.helper.make_node("Add", ["x", "twice"], ["thrice"]))
    block.graph.output[0].name = "thrice"  # the input is read three times
    whole = with_prefix(block.SerializeToString(), (8, 5, 5), "x")
    found = onnx.load_from_string(whole)
    onnx.checker.check_model(found, full_check=True)
    assert [node.op_type for node in found.graph.node] == ["Conv", "Identity", "Add", "Add"]
    assert sum("x" in node.input for node in found.graph.node) == 1
    x = np.random.default_rng(0).standard_normal((2, 8, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(run_model(whole, {"x": x}, batch_size=2)[0], 3 * x, rtol=1e-6)


def test_inputs_without_a_blocked_layout_need_no_prefix() -> None:
    assert [needs_prefix(shape) for shape in ((3, 16, 16), (64,), ("tokens", 16, 4), (4, 1, 1))] == [*[False] * 3, True]
    assert with_prefix(conv_net(), (3, 16, 16), "x") == conv_net()
