"""OpenVINO as a profile's runtime: measured by the real worker, compared with ONNX Runtime, and refused where it cannot be."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from hardware_profiles import catalog
from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.catalog import check_machine, in_runtime, load_profile
from hardware_profiles.environment import differences, machine_key
from hardware_profiles.profiler_factory import open_profiler
from hardware_profiles.quantize import check_precision
from hardware_profiles.requirements import check_requirements
from hardware_profiles.runtime import run_model
from nas.plugins.testing.onnx_networks import conv_net
from tests.errors import raises

openvino = pytest.importorskip("openvino")

PROFILE = HardwareProfile("ov", runtime="openvino", provider="CPU")
INPUT = {"x": np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)}


def test_models_are_measured_in_it(tmp_path: Path) -> None:
    with open_profiler(PROFILE) as profiler:
        environment = profiler.environment()
        good, bad = profiler.measure([Deployment.single(conv_net(), INPUT), Deployment.single(b"no model", INPUT)])
    assert environment["openvino"] == openvino.__version__
    assert "onnxruntime" not in environment
    assert isinstance(good, LatencyMeasurement)
    assert good.latency_ms > 0
    assert good.session_ms > 0
    assert good.environment["graphs"][0]["providers"] == ["CPU"]
    assert isinstance(bad, LatencyFailure)
    assert bad.message


def test_its_outputs_are_those_of_onnx_runtime() -> None:
    (expected,), (found,) = run_model(conv_net(), INPUT), run_model(conv_net(), INPUT, runtime="openvino")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0
    with raises("model.rejected", "OpenVINO"):
        run_model(b"no model", INPUT, runtime="openvino")


def test_a_profile_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nruntime: openvino\n")
    profile = load_profile(str(path))
    assert (profile.runtime, profile.provider, profile.on_cpu) == ("openvino", "CPU", True)
    check_machine(profile)
    path.write_text("name: mine\nruntime: openvin\n")
    with raises("profile.unknown-runtime", "mine.yaml: runtime: unknown runtime 'openvin' (did you mean 'openvino'?)"):
        load_profile(str(path))
    path.write_text("name: mine\nruntime: openvino\nprovider: NPU\n")
    with raises("profile.provider-unavailable", "NPU", "OpenVINO"):
        check_machine(load_profile(str(path)))


def test_a_profile_is_taken_to_another_runtime() -> None:
    plain = load_profile("cpu-1-thread")
    other = in_runtime(plain, "openvino")
    assert (other.name, other.threads, other.runtime) == (plain.name, 1, "openvino")
    assert in_runtime(other, "onnxruntime") == plain
    with raises("profile.unknown-runtime", "did you mean 'openvino'"):
        in_runtime(plain, "openvin")
    with raises("profile.unknown-runtime", "on a CPU only"):
        in_runtime(load_profile("cuda"), "openvino")


def test_profiles_and_environments_of_before_are_unchanged() -> None:
    plain = load_profile("cpu-1-thread")
    assert "runtime" not in plain.to_json()
    assert in_runtime(plain, "openvino").to_json()["runtime"] == "openvino"
    old = {"cpu": "A", "onnxruntime": "1.32.0"}
    assert machine_key(old) == machine_key({**old, "runtime": None})
    new = {"cpu": "A", "runtime": "OpenVINO 2026.4"}
    assert machine_key(old) != machine_key(new)
    assert differences(new, {**new, "runtime": "OpenVINO 2027"}) == ["runtime: was OpenVINO 2026.4, is OpenVINO 2027"]


def test_precisions_that_it_runs() -> None:
    check_precision("fp32", "CPU", "openvino")
    check_precision("int8", "CPU", "openvino")
    with raises("precision.unsupported-by-provider", "fp32 arithmetic"):
        check_precision("fp16", "CPU", "openvino")


def test_without_the_package_the_profile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    catalog._installed.cache_clear()  # a process asks once
    with raises("profile.runtime-missing", "pip install openvino"):
        check_machine(PROFILE)
    with raises("model.runtime-missing", "pip install openvino"):
        run_model(conv_net(), INPUT, runtime="openvino")


def test_a_machine_without_the_device_is_named() -> None:
    here = {
        "host": "board",
        "allowed_cpus": 4,
        "quota_cpus": None,
        "openvino": "2026.4",
        "runtime": "OpenVINO 2026.4",
        "available_providers": ["GPU"],
    }
    with raises("profile.provider-unavailable", "OpenVINO 2026.4 on board has GPU"):
        check_requirements(PROFILE, here)
    assert onnxruntime.__version__ not in json.dumps(here)
