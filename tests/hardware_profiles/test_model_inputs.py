"""Random inputs for a model, and the errors where none can be made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper

from hardware_profiles.base import HardwareProfile
from hardware_profiles.model_inputs import make_inputs
from nas.plugins.testing.onnx_networks import declare
from tests.errors import raises
from tests.onnx_networks import identity

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


def test_a_dimension_with_the_batchs_name_is_the_batch_and_fixed_inputs_keep_their_shape() -> None:
    found = inputs_of(
        declare("x", ["n", 3]), declare("state", [2, "n", 5]), declare("threshold", [1]), declare("anon", [None, 2])
    )
    assert {name: array.shape for name, array in found.items()} == {
        "x": (4, 3), "state": (2, 4, 5), "threshold": (1,), "anon": (4, 2),
    }  # fmt: skip


def test_equal_seeds_make_equal_inputs_and_weights_are_not_inputs() -> None:
    model = identity(declare("x", ["n", 3]), declare("w", [2, 2]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((2, 2), np.float32), "w"))
    first, second = (make_inputs(model, BATCH_4, np.random.default_rng(5), source="m") for _ in range(2))
    assert list(first) == ["x"]
    np.testing.assert_array_equal(first["x"], second["x"])


SHAPE, UNSUPPORTED = "model.shape-required", "model.input-unsupported"


@pytest.mark.parametrize(
    ("value", "code", "mentions"),
    [
        (declare("tokens", ["n", "length"]), SHAPE, ["input 'tokens'", "dimension 1 ('length')", "shape tokens="]),
        (declare("tokens", ["n", None]), SHAPE, ["input 'tokens'", "dimension 1 is"]),
        (declare("x", [-1, -1]), SHAPE, ["input 'x'", "dimension 1 is"]),  # written by old exporters
        (helper.make_tensor_value_info("x", TensorProto.FLOAT, None), SHAPE, ["input 'x'", "shape x="]),
        (helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None), SHAPE, ["input 'x'"]),
        (declare("x", [8, 3]), "model.batch-mismatch", ["input 'x'", "fixed at 8", "test-batch-4", "batch size 4"]),
        (declare("x", ["n", 0]), UNSUPPORTED, ["input 'x'", "size 0"]),
        (declare("x", ["n", 2**15, 2**15]), UNSUPPORTED, ["input 'x'", "4x32768x32768", "536,870,912"]),
        (declare("x", ["n"], TensorProto.STRING), UNSUPPORTED, ["input 'x'", "STRING"]),
    ],
)
def test_an_unsupported_input_is_named(value: ValueInfoProto, code: str, mentions: list[str]) -> None:
    with raises(code, "m.onnx: ", *mentions):
        inputs_of(value)


def test_a_given_shape_fills_dynamic_dimensions() -> None:
    tokens, undeclared = declare("tokens", ["n", "length"]), helper.make_tensor_value_info("u", TensorProto.FLOAT, None)
    found = inputs_of(tokens, undeclared, declare("x", ["n", 3]), shapes={"tokens": (4, 9), "u": (4, 2)})
    assert {name: array.shape for name, array in found.items()} == {"tokens": (4, 9), "u": (4, 2), "x": (4, 3)}


@pytest.mark.parametrize(
    ("shapes", "mentions"),
    [
        ({"toks": (4, 9)}, ["'toks'", "inputs are 'tokens'"]),
        ({"tokens": (8, 9, 3)}, ["8x9x3", "batch size 4", "expected 4x?x3"]),
        ({"tokens": (4, 9, 5)}, ["4x9x5", "4x?x3"]),
        ({"tokens": (4, 9)}, ["4x9 ", "4x?x3"]),
        ({"tokens": (4, 0, 3)}, ["4x0x3", "from 1"]),
    ],
)
def test_a_given_shape_that_contradicts_the_model_is_rejected(
    shapes: dict[str, Sequence[int]], mentions: list[str]
) -> None:
    with raises("model.shape-mismatch", "m.onnx: ", *mentions):
        inputs_of(declare("tokens", ["n", "length", 3]), shapes=shapes)
