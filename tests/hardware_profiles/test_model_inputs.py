"""Inputs made up for what a model declares, and what is said about those that cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper

from hardware_profiles.base import HardwareProfile
from hardware_profiles.errors import ModelError
from hardware_profiles.model_inputs import make_inputs
from tests.hardware_profiles.networks import declare, identity

BATCH_4 = HardwareProfile("test-batch-4", batch_size=4)


def inputs_of(*inputs: ValueInfoProto, shapes: dict[str, Sequence[int]] | None = None) -> dict[str, NDArray[Any]]:
    return make_inputs(identity(*inputs), BATCH_4, np.random.default_rng(0), shapes=shapes, source="m.onnx")


def test_inputs_have_the_declared_types_and_the_profiles_batch() -> None:
    kinds = {
        "f32": (TensorProto.FLOAT, np.float32),
        "f16": (TensorProto.FLOAT16, np.float16),
        "i64": (TensorProto.INT64, np.int64),
        "u8": (TensorProto.UINT8, np.uint8),
        "flag": (TensorProto.BOOL, np.bool_),
    }
    found = inputs_of(*(declare(name, ["n", 40], kind) for name, (kind, _) in kinds.items()), declare("scalar", []))
    for name, (_, dtype) in kinds.items():
        assert found[name].dtype == dtype
        assert found[name].shape == (4, 40)
    assert found["scalar"].shape == ()
    assert set(np.unique(found["i64"])) == {0, 1}
    assert found["u8"].max() > 200
    assert 0.7 < found["f32"].std() < 1.3


def test_the_batchs_name_means_the_batch_wherever_it_stands_and_fixed_side_inputs_stay() -> None:
    found = inputs_of(
        declare("x", ["n", 3]), declare("state", [2, "n", 5]), declare("threshold", [1]), declare("anon", [None, 2])
    )
    assert {name: array.shape for name, array in found.items()} == {
        "x": (4, 3), "state": (2, 4, 5), "threshold": (1,), "anon": (4, 2),
    }  # fmt: skip


def test_equal_seeds_make_equal_inputs_and_weights_are_no_inputs() -> None:
    model = identity(declare("x", ["n", 3]), declare("w", [2, 2]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((2, 2), np.float32), "w"))
    first, second = (make_inputs(model, BATCH_4, np.random.default_rng(5), source="m") for _ in range(2))
    assert list(first) == ["x"]
    np.testing.assert_array_equal(first["x"], second["x"])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (declare("tokens", ["n", "length"]), r"dimension 1 \('length'\) of input 'tokens' is dynamic"),
        (declare("tokens", ["n", None]), r"dimension 1 of input 'tokens' is dynamic"),
        (declare("x", [8, 3]), r"input 'x' is fixed at 8, and profile test-batch-4 runs batches of 4.*dynamic batch"),
        (declare("x", ["n", 0]), r"input 'x' has a dimension of size 0"),
        (declare("x", [-1, -1]), r"dimension 1 of input 'x' is dynamic"),  # as old exporters write it
        (declare("x", ["n", 2**15, 2**15]), r"input 'x' would be 4x32768x32768, more than 536,870,912 numbers"),
        (declare("x", ["n"], TensorProto.STRING), r"input 'x' is of type STRING"),
        (helper.make_tensor_value_info("x", TensorProto.FLOAT, None), r"input 'x' is no tensor of declared shape"),
        (
            helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None),
            r"input 'x' is no tensor of declared shape",
        ),
    ],
)
def test_an_input_that_cannot_be_made_up_is_named(value: ValueInfoProto, words: str) -> None:
    with pytest.raises(ModelError, match=f"m.onnx: .*{words}"):
        inputs_of(value)


def test_a_given_shape_fills_what_is_dynamic() -> None:
    tokens, undeclared = declare("tokens", ["n", "length"]), helper.make_tensor_value_info("u", TensorProto.FLOAT, None)
    found = inputs_of(tokens, undeclared, declare("x", ["n", 3]), shapes={"tokens": (4, 9), "u": (4, 2)})
    assert {name: array.shape for name, array in found.items()} == {"tokens": (4, 9), "u": (4, 2), "x": (4, 3)}


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"toks": (4, 9)}, r"given for input 'toks', and the model's inputs are 'tokens'"),
        ({"tokens": (8, 9, 3)}, r"shape 8x9x3 is given, and the model and the profile's batch of 4 want 4x\?x3"),
        ({"tokens": (4, 9, 5)}, "want 4x"),
        ({"tokens": (4, 9)}, "want 4x"),
        ({"tokens": (4, 0, 3)}, "with sizes from 1"),
    ],
)
def test_a_given_shape_that_contradicts_is_told(shapes: dict[str, Sequence[int]], words: str) -> None:
    with pytest.raises(ModelError, match=f"m.onnx: .*{words}"):
        inputs_of(declare("tokens", ["n", "length", 3]), shapes=shapes)
