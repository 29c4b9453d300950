"""Names of runtimes: shipped, registered by packages, and module:Class."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hardware_profiles.base import HardwareProfile
from hardware_profiles.catalog import check_machine, in_runtime, load_profile
from hardware_profiles.quantize import check_precision
from hardware_profiles.runtime import run_model
from hardware_profiles.runtimes.lookup import check_name, find_runtime, source_of
from hardware_profiles.runtimes.onnx_runtime import OnnxRuntime
from nas.plugins.testing.onnx_networks import conv_net
from nas.plugins.testing.runtime import IMAGES
from tests.errors import raises

RUNTIME = """
from hardware_profiles.runtimes.onnx_runtime import OnnxRuntime


class Mine(OnnxRuntime):
    label, package = "Mine", "a_package_that_is_nowhere"

    def version(self):
        import a_package_that_is_nowhere
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_runtimes.py").write_text(RUNTIME)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_runtimes", raising=False)
    return "my_runtimes:Mine"


def test_shipped_names_and_classes() -> None:
    assert isinstance(find_runtime("onnxruntime"), OnnxRuntime)
    assert type(find_runtime("hardware_profiles.runtimes.onnx_runtime:OnnxRuntime")) is OnnxRuntime
    file, _, name = source_of("openvino").rpartition(":")
    assert (Path(file).name, name) == ("openvino_runtime.py", "OpenVino")


def test_unknown_names_are_refused_with_the_nearest() -> None:
    for use in (check_name, find_runtime, source_of):
        with raises(
            "profile.unknown-runtime", "unknown runtime 'onxruntime' (did you mean 'onnxruntime'?)", "openvino"
        ):
            use("onxruntime")


def test_a_class_that_is_not_there_is_named() -> None:
    with raises("profile.unknown-runtime", "there is no module nowhere.at_all here", "PYTHONPATH"):
        find_runtime("nowhere.at_all:Mine")
    with raises("profile.unknown-runtime", "AttributeError", "Missing"):
        find_runtime("hardware_profiles.runtimes.onnx_runtime:Missing")


def test_the_package_of_a_plug_in_that_is_not_installed_is_named(mine: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\nruntime: {mine}\n")
    profile = load_profile(str(path))
    assert profile == HardwareProfile("mine", runtime=mine, provider="CPUExecutionProvider")
    with raises("profile.runtime-missing", "measured in Mine", "pip install a_package_that_is_nowhere"):
        check_machine(profile)
    with raises("model.runtime-missing", "install Mine: pip install a_package_that_is_nowhere"):
        run_model(conv_net(), {"x": IMAGES}, runtime=mine)
    assert in_runtime(load_profile("cpu-1-thread"), mine).runtime == mine
    check_precision("int8", "CPUExecutionProvider", mine)
    with raises("precision.unsupported-by-provider", "CPUExecutionProvider does not run bf16"):
        check_precision("bf16", "CPUExecutionProvider", mine)
