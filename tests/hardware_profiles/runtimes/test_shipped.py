"""The shipped runtimes fulfil the contract; operations that one does not have are named."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure
from hardware_profiles.profiler_factory import open_profiler
from hardware_profiles.runtime import run_model
from hardware_profiles.runtimes.base import Runtime
from hardware_profiles.runtimes.onnx_runtime import OnnxRuntime
from hardware_profiles.runtimes.openvino_runtime import OpenVino
from nas.plugins.testing import RuntimeContract
from nas.plugins.testing.runtime import IMAGES
from tests.errors import raises


def unusual() -> bytes:
    """A model of a Relu and of an operation that no runtime has."""
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Twist", ["h"], ["y"], domain="com.mine")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 16, 16]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.mine", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


class TestOnnxRuntime(RuntimeContract):
    @staticmethod
    def make() -> Runtime:
        return OnnxRuntime()


class TestOpenVino(RuntimeContract):
    @staticmethod
    def make() -> Runtime:
        pytest.importorskip("openvino")
        return OpenVino()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_operation_that_a_runtime_does_not_have_is_named(runtime: str) -> None:
    pytest.importorskip(runtime)
    with raises("model.rejected", "rejects the model", "Twist"):
        run_model(unusual(), {"x": IMAGES[:1]}, runtime=runtime)
    provider = "CPU" if runtime == "openvino" else "CPUExecutionProvider"
    with open_profiler(HardwareProfile("mine", runtime=runtime, provider=provider)) as profiler:
        (failed,) = profiler.measure([Deployment.single(unusual(), {"x": IMAGES[:1]})])
    assert isinstance(failed, LatencyFailure)
    assert "Twist" in failed.message
