"""A 16-bit model agrees with the float32 model to the precision of its mantissa."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from hardware_profiles.quantize import convert
from hardware_profiles.runtime import run_model
from nas.plugins.testing.onnx_networks import conv_net, declare
from tests.errors import raises

X = np.random.default_rng(1).standard_normal((2, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize(("precision", "bits"), [("fp16", 11), ("bf16", 8)])
def test_sixteen_bits_agree_with_fp32(precision: str, bits: int) -> None:
    net = conv_net(channels=6, depth=2)
    exact = run_model(net, {"x": X})[0]
    halves = convert(net, precision, [])
    found = ReferenceEvaluator(onnx.load_from_string(halves)).run(None, {"x": X})[0]  # no CPU kernels for bf16
    assert found.dtype == np.float32
    assert found.shape == exact.shape
    assert exact.std() > 0.1
    error = np.abs(found - exact).max() / np.abs(exact).max()
    assert 0 < error < 12 * 2.0**-bits  # the reference rounds each of a convolution's 54 sums too


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_weights_are_sixteen_bits_and_inputs_and_outputs_are_not(precision: str) -> None:
    net = conv_net(channels=64, depth=3)
    halves = convert(net, precision, [])
    assert 1.9 < len(net) / len(halves) < 2.0
    graph = onnx.load_from_string(halves).graph
    kinds = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
    assert {w.data_type for w in graph.initializer} == {kinds[precision]}
    assert [v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)] == [TensorProto.FLOAT] * 2
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert convert(net, precision, []) == halves


def test_fp16_runs_in_onnx_runtime_with_constants_and_an_output_that_is_read() -> None:
    nodes = [
        helper.make_node("Constant", [], ["half"], value_float=0.5),
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32(2))),
        helper.make_node("Clip", ["x", "half", "two"], ["clipped"]),
        helper.make_node("Shape", ["clipped"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["sides"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["clipped", "sides"], ["y"]),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    ends = [declare(name, [1]) for name in ("x", "y", "z")]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    halves = convert(made.SerializeToString(), "fp16", [])
    for given, wanted in ((0.0, 0.5), (1.25, 1.25), (9.0, 2.0)):  # all exact in fp16
        found = run_model(halves, {"x": np.array([given], np.float32)})
        assert [v.tolist() for v in found] == [[wanted], [wanted]]


def test_a_weight_outside_the_range_of_fp16_is_rejected_and_bf16_keeps_it() -> None:
    weight = numpy_helper.from_array(np.array([1e5], np.float32), "w")
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "net", [declare("x", [1])], [declare("y", [1])], [weight])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    with raises("precision.overflow", "'w'", "1e+05", "fp16"):
        convert(made, "fp16", [])
    found = ReferenceEvaluator(onnx.load_from_string(convert(made, "bf16", []))).run(
        None, {"x": np.ones(1, np.float32)}
    )
    assert found[0][0] == pytest.approx(1e5, rel=2.0**-8)


def test_an_operation_without_sixteen_bits_is_rejected() -> None:
    inputs = [declare("x", [1, 1, 4, 4])]
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"])
    graph = helper.make_graph([node], "net", inputs, [declare("y", [1, 1, 8, 8])], [scales])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    with raises("precision.unsupported-operation", "fp16", "Resize"):
        convert(made, "fp16", [])
    with raises("precision.model-invalid", "bf16"):
        convert(b"\xff\xffno model", "bf16", [])
