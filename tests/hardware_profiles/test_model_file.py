"""ONNX files are measured, and invalid ones are rejected."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from hardware_profiles.base import HardwareProfile
from hardware_profiles.model_file import measure_latency, parse_shapes, summary
from nas.plugins.testing.onnx_networks import conv_net, declare
from tests.errors import raises
from tests.onnx_networks import identity

BATCH_4 = HardwareProfile("test-batch-4", batch_size=4)


@pytest.mark.usefixtures("true_rounds")  # so fast a model has enough runs for a p99
def test_a_file_is_measured_and_summarized_as_json(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(conv_net())
    found = measure_latency(path, BATCH_4)
    shown = json.loads(json.dumps(summary(BATCH_4, found), allow_nan=False))
    assert list(shown) == [
        "profile", "latency_ms", "resolution", "p50_ms", "p90_ms", "p99_ms", "samples", "throughput_per_s", "session_ms",
        "session_error_ms", "peak_mib", "peak_error_mib", "energy_mj", "energy_error_mj", "drift", "preempted_share",
        "noisy", "protocol", "environment",
    ]  # fmt: skip
    assert shown["throughput_per_s"] == pytest.approx(4 / (found.latency_ms / 1e3))
    assert shown["p50_ms"] <= shown["p90_ms"] <= shown["p99_ms"]
    assert shown["profile"] == "test-batch-4"
    assert shown["energy_mj"] is shown["energy_error_mj"] is None  # it was not asked for
    assert shown["latency_ms"] == found.latency_ms > 0
    assert shown["environment"]["batch_size"] == 4
    assert len(found.round_lengths) >= 20


def test_a_given_shape_and_a_precision_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(conv_net(size="side"))
    with raises("model.shape-required", "input 'x'", "dimension 2 ('side')", "shape x=1x..."):
        measure_latency(path, BATCH_4, longer=False)
    small, large = (
        measure_latency(path, BATCH_4, shapes={"x": (4, 3, side, side)}, longer=False).latency_ms for side in (8, 64)
    )
    assert small < large / 5  # 64 x the multiplications
    assert measure_latency(path, BATCH_4, shapes={"x": (4, 3, 8, 8)}, precision="int8", longer=False).latency_ms > 0


def test_a_precision_that_the_provider_does_not_run_is_rejected(tmp_path: Path) -> None:
    with raises("precision.unsupported-by-provider", "CPUExecutionProvider", "fp16"):
        measure_latency(tmp_path / "absent.onnx", BATCH_4, precision="fp16")


def test_shapes_are_read_from_texts() -> None:
    assert parse_shapes(["x=1x3x8", "a=b=2"]) == {"x": (1, 3, 8), "a=b": (2,)}
    for wrong in ("1x3", "x=", "x=1x", "x=0x3", "x=axb", "=1x3", "x=1×3", "x=-1"):
        with raises("model.shape-malformed", repr(wrong)):
            parse_shapes([wrong])
    with raises("model.shape-malformed", "'x' is repeated"):
        parse_shapes(["x=1", "x=2"])


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 50, b"hello, world", b"PK\x03\x04 and so on", conv_net()[:-300], b"\x08\x08"]
)
def test_a_file_that_is_not_a_model_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with raises("model.invalid", str(path)):
        measure_latency(path, BATCH_4)


def test_missing_files_folders_and_missing_weights_are_rejected(tmp_path: Path) -> None:
    with raises("model.unreadable", "absent.onnx", "No such file"):
        measure_latency(tmp_path / "absent.onnx", BATCH_4)
    with raises("model.unreadable", str(tmp_path), "Is a directory"):
        measure_latency(tmp_path, BATCH_4)
    model = onnx.load_from_string(conv_net())
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    cut = (tmp_path / "weights.bin").read_bytes()[:-8]
    (tmp_path / "weights.bin").write_bytes(cut)
    with raises("model.unreadable", "net.onnx"):
        measure_latency(tmp_path / "net.onnx", BATCH_4)
    (tmp_path / "weights.bin").unlink()
    with raises("model.unreadable", "net.onnx", "weights.bin"):
        measure_latency(tmp_path / "net.onnx", BATCH_4)


def test_a_model_that_the_runtime_rejects_fails(tmp_path: Path) -> None:
    model = identity(declare("x", ["n", 3]))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "net.onnx")
    with raises("model.not-measured", "net.onnx", "NoSuchOperator"):
        measure_latency(tmp_path / "net.onnx", BATCH_4)


def test_a_model_that_loads_and_does_not_run_fails(tmp_path: Path) -> None:
    model = identity(declare("x", ["n", 3]))
    model.graph.node[0].op_type = "Reshape"
    model.graph.node[0].input.append("shape")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([7, 7], np.int64), "shape"))
    onnx.save(model, tmp_path / "net.onnx")
    with raises("model.not-measured", "net.onnx", "Reshape"):
        measure_latency(tmp_path / "net.onnx", BATCH_4)
