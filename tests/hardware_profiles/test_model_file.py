"""Any ONNX file is measured, and what is said about files that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from hardware_profiles.base import HardwareProfile
from hardware_profiles.errors import ModelError, PrecisionError
from hardware_profiles.model_file import parse_shapes, profile_model, summary
from tests.hardware_profiles.networks import conv_net, declare, identity

BATCH_4 = HardwareProfile("test-batch-4", batch_size=4)


@pytest.mark.usefixtures("true_rounds")  # of so fast a model there are runs enough for a p99
def test_a_file_is_measured_and_summed_up_as_json(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(conv_net())
    found = profile_model(path, BATCH_4)
    told = json.loads(json.dumps(summary(BATCH_4, found), allow_nan=False))
    assert list(told) == [
        "profile", "latency_ms", "resolution", "p50_ms", "p90_ms", "p99_ms", "samples", "throughput_per_s", "session_ms",
        "session_error_ms", "peak_mib", "peak_error_mib", "discarded_rounds", "drift", "preempted_share", "noisy",
        "protocol", "environment",
    ]  # fmt: skip
    assert told["throughput_per_s"] == pytest.approx(4 / (found.latency_ms / 1e3))
    assert told["p50_ms"] <= told["p90_ms"] <= told["p99_ms"]
    assert told["profile"] == "test-batch-4"
    assert told["latency_ms"] == found.latency_ms > 0
    assert told["environment"]["batch_size"] == 4
    assert len(found.round_lengths) == 20


def test_a_shape_that_is_given_and_a_precision_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(conv_net(size="side"))
    with pytest.raises(ModelError, match=r"dimension 2 \('side'\) of input 'x' is dynamic.*--shape x=1x\.\.\."):
        profile_model(path, BATCH_4, longer=False)
    small, large = (
        profile_model(path, BATCH_4, shapes={"x": (4, 3, side, side)}, longer=False).latency_ms for side in (8, 64)
    )
    assert small < large / 5  # 64 x the multiplications
    assert profile_model(path, BATCH_4, shapes={"x": (4, 3, 8, 8)}, precision="int8", longer=False).latency_ms > 0


def test_a_precision_that_the_provider_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrecisionError, match="CPUExecutionProvider does not run fp16"):
        profile_model(tmp_path / "absent.onnx", BATCH_4, precision="fp16")


def test_shapes_are_read_from_texts() -> None:
    assert parse_shapes(["x=1x3x8", "a=b=2"]) == {"x": (1, 3, 8), "a=b": (2,)}
    for wrong in ("1x3", "x=", "x=1x", "x=0x3", "x=axb", "=1x3", "x=1×3", "x=-1"):
        with pytest.raises(ModelError, match="expected a shape as NAME="):
            parse_shapes([wrong])
    with pytest.raises(ModelError, match="'x' is given twice"):
        parse_shapes(["x=1", "x=2"])


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
    cut = (tmp_path / "weights.bin").read_bytes()[:-8]
    (tmp_path / "weights.bin").write_bytes(cut)
    with pytest.raises(ModelError, match=r"net\.onnx: the model cannot be read: "):
        profile_model(tmp_path / "net.onnx", BATCH_4)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"the model cannot be read: .*weights\.bin"):
        profile_model(tmp_path / "net.onnx", BATCH_4)


def test_a_model_that_the_runtime_refuses_is_told(tmp_path: Path) -> None:
    model = identity(declare("x", ["n", 3]))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"net\.onnx: .*NoSuchOperator"):
        profile_model(tmp_path / "net.onnx", BATCH_4)


def test_a_model_that_loads_and_fails_when_it_runs_is_told(tmp_path: Path) -> None:
    model = identity(declare("x", ["n", 3]))
    model.graph.node[0].op_type = "Reshape"
    model.graph.node[0].input.append("shape")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([7, 7], np.int64), "shape"))
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"net\.onnx: .*Reshape"):
        profile_model(tmp_path / "net.onnx", BATCH_4)
