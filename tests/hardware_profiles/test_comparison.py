"""Models are compared within one session, and ties are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hardware_profiles import LatencyComparison, LatencyMeasurement, compare_latency, measure_latency
from nas.plugins.testing.onnx_networks import conv_net
from tests.errors import raises


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> LatencyMeasurement:
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    path.write_bytes(conv_net())
    return measure_latency(path, "cpu-1-thread", longer=False)


def test_files_are_measured_in_one_session_the_fastest_first(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("large.onnx", "small.onnx", "copy.onnx")]
    for path, size in zip(paths, (64, 8, 8), strict=True):
        path.write_bytes(conv_net(size, 4))
    found = compare_latency(paths, longer=False)
    large, small, copy = map(str, paths)
    assert set(found.models[:2]) == {small, copy}
    assert found.models[2] == large
    latencies = [measurement.latency_ms for measurement in found.measurements]
    assert latencies == sorted(latencies)
    assert found[large].latency_ms > 2 * found[small].latency_ms
    sessions = {str(m.environment["sentinel_ms"]) for m in found.measurements}
    assert len(sessions) == 1


def test_what_differs_by_less_than_the_larger_resolution_is_a_tie(measured: LatencyMeasurement) -> None:
    latencies = {"a": (1.0, 0.01), "b": (1.009, 0.005), "c": (1.02, 0.03), "d": (1.1, 0.005)}
    values = tuple(replace(measured, latency_ms=ms, resolution=share) for ms, share in latencies.values())
    found = LatencyComparison(tuple(latencies), values)
    assert found.fastest == ("a", "b", "c")  # 0.009 <= 0.01, 0.02 <= 0.0306, 0.1 > 0.01
    assert found.is_tie("b", "c")
    assert not found.is_tie("b", "d")
    assert str(found).splitlines() == [
        "a  1.0000 ± 0.0100 ms",
        "b  1.0090 ± 0.0050 ms  tie with a",
        "c  1.0200 ± 0.0306 ms  tie with a",
        "d  1.1000 ± 0.0055 ms  1.10 times a",
    ]
    with raises("model.not-compared", "a, b, c, d"):
        found["e"]


def test_fewer_than_two_and_more_than_share_rounds_are_rejected(tmp_path: Path) -> None:
    with raises("model.not-comparable", "at least 2"):
        compare_latency(["a.onnx"])
    with raises("model.not-comparable", "different"):
        compare_latency(["a.onnx", "a.onnx"])
    paths = [tmp_path / f"{i}.onnx" for i in range(21)]
    for path in paths:
        path.write_bytes(conv_net())
    with raises("model.not-comparable", "21 models", "at most 20"):
        compare_latency(paths)


def test_a_model_that_does_not_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(conv_net())
    with raises("model.unreadable", "gone.onnx"):
        compare_latency([tmp_path / "a.onnx", tmp_path / "gone.onnx"])
