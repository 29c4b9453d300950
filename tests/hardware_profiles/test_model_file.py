"""Any ONNX file: inputs made up for what it declares, and what is said about files that cannot be measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper

from hardware_profiles.base import HardwareProfile
from hardware_profiles.errors import ModelError
from hardware_profiles.model_file import make_inputs, profile_model, summary
from tests.hardware_profiles.networks import conv_net, declare, identity

BATCH_4 = HardwareProfile("test-batch-4", batch_size=4)


def inputs_of(*inputs: ValueInfoProto) -> dict[str, NDArray[Any]]:
    return make_inputs(identity(*inputs), BATCH_4, np.random.default_rng(0), source="m.onnx")


def test_a_file_is_measured_and_summed_up_as_json(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(conv_net())
    found = profile_model(path, BATCH_4)
    told = json.loads(json.dumps(summary(BATCH_4, found), allow_nan=False))
    assert list(told) == [
        "profile", "latency_ms", "p50_ms", "samples", "resolution", "preempted_share", "protocol", "environment",
    ]  # fmt: skip
    assert told["profile"] == "test-batch-4"
    assert told["latency_ms"] == found.latency_ms > 0
    assert told["environment"]["batch_size"] == 4
    assert len(found.round_lengths) == 20


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


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 50, b"hello, world", b"PK\x03\x04 and so on", conv_net()[:-300], b"\x08\x08"]
)
def test_what_is_no_model_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"net\.onnx: this is no ONNX model"):
        profile_model(path, BATCH_4)


def test_a_missing_file_a_folder_and_missing_weights_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.onnx: the model cannot be read: No such file"):
        profile_model(tmp_path / "absent.onnx", BATCH_4)
    with pytest.raises(ModelError, match="the model cannot be read: Is a directory"):
        profile_model(tmp_path, BATCH_4)
    model = onnx.load_from_string(conv_net())
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"the model cannot be read: .*weights\.bin"):
        profile_model(tmp_path / "net.onnx", BATCH_4)


def test_a_model_that_the_runtime_refuses_is_told(tmp_path: Path) -> None:
    model = identity(declare("x", ["n", 3]))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"net\.onnx: .*NoSuchOperator"):
        profile_model(tmp_path / "net.onnx", BATCH_4)
