"""An int8 model agrees with the float32 model on real images, and unsupported models are rejected."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from hardware_profiles.errors import PrecisionError
from hardware_profiles.precisions.ranges import activation_ranges
from hardware_profiles.quantize import PRECISIONS, check_precision, convert
from hardware_profiles.runtime import run_model
from nas.plugins.testing.onnx_networks import conv_net
from tests.errors import raises

Batches = list[dict[str, NDArray[Any]]]


def images() -> NDArray[np.float32]:
    """The 1,797 digits, (n, 1, 8, 8)."""
    return (load_digits().images[:, None].astype(np.float32) - 4.9) / 6.0


def features(channels: int, rng: np.random.Generator) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
    """Random layers as in our networks: a stem, depthwise and linear convolutions, a skip, average pooling of quarters."""
    nodes, weights = [], []

    def conv(at: str, to: str, inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        shape = (outputs, inputs // groups, kernel, kernel)
        weight = rng.standard_normal(shape).astype(np.float32) * float(2 / np.prod(shape[1:])) ** 0.5
        weight *= rng.uniform(0.2, 2.0, (outputs, 1, 1, 1)).astype(np.float32)  # channels of different ranges
        bias = rng.standard_normal(outputs).astype(np.float32) * 0.1
        weights.extend([numpy_helper.from_array(weight, f"{to}.w"), numpy_helper.from_array(bias, f"{to}.b")])
        pads = [kernel // 2] * 4
        nodes.append(helper.make_node("Conv", [at, f"{to}.w", f"{to}.b"], [to], pads=pads, group=groups))

    conv("x", "stem", 1, channels, 3)
    nodes.append(helper.make_node("Relu", ["stem"], ["r0"]))
    conv("r0", "expand", channels, 2 * channels, 1)
    nodes.append(helper.make_node("HardSwish", ["expand"], ["r1"]))
    conv("r1", "filter", 2 * channels, 2 * channels, 3, groups=2 * channels)
    nodes.append(helper.make_node("Clip", ["filter", "zero", "six"], ["r2"]))
    conv("r2", "project", 2 * channels, channels, 1)
    nodes.append(helper.make_node("Add", ["r0", "project"], ["sum"]))
    nodes.append(helper.make_node("AveragePool", ["sum"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    weights += [numpy_helper.from_array(np.float32(v), n) for v, n in ((0, "zero"), (6, "six"))]
    return nodes, weights, "flat"


def model(
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    output: str,
    shape: list[int | str],
    *,
    opset: int = 18,
) -> bytes:
    declared = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 8, 8])]
    result = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "net", declared, result, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return bytes(made.SerializeToString())


@pytest.fixture(scope="module")
def classifier() -> bytes:
    """A classifier of digits: random layers, and a linear layer fitted on their outputs for the first 1,000."""
    nodes, weights, at = features(48, np.random.default_rng(0))
    found = run_model(model(nodes, weights, at, ["batch", 4 * 48]), {"x": images()[:1000]})[0]
    scale = found.std(axis=0)
    fitted = LogisticRegression(C=0.1, max_iter=2000).fit(found / scale, load_digits().target[:1000])
    weight, bias = (fitted.coef_ / scale).astype(np.float32), fitted.intercept_.astype(np.float32)
    weights += [numpy_helper.from_array(weight, "head.w"), numpy_helper.from_array(bias, "head.b")]
    nodes.append(helper.make_node("Gemm", [at, "head.w", "head.b"], ["y"], transB=1))
    return model(nodes, weights, "y", ["batch", 10])


def calibration(n: int = 256) -> Batches:
    return [{"x": images()[start : start + 64]} for start in range(0, n, 64)]


def test_int8_agrees_with_fp32_on_images_outside_the_calibration(classifier: bytes) -> None:
    unseen, labels = images()[1000:], load_digits().target[1000:]
    exact = run_model(classifier, {"x": unseen})[0]
    found = run_model(convert(classifier, "int8", calibration()), {"x": unseen})[0]
    assert found.dtype == np.float32
    centred = exact - exact.mean(axis=0)  # the mean of all images would correlate by itself
    assert centred.std() > 0.5
    assert np.corrcoef(centred.ravel(), (found - exact.mean(axis=0)).ravel())[0, 1] > 0.99
    right, kept = (exact.argmax(axis=1) == labels).mean(), (found.argmax(axis=1) == labels).mean()
    assert right > 0.9  # the network classifies digits at all
    assert abs(right - kept) < 0.03  # 24 of 797 images


def test_weights_are_whole_numbers_of_a_byte_and_outputs_are_not_rounded(classifier: bytes) -> None:
    quantized = onnx.load_from_string(convert(classifier, "int8", calibration()))
    onnx.checker.check_model(quantized, full_check=True)
    before = {w.name: w for w in onnx.load_from_string(classifier).graph.initializer}
    after = {w.name: w for w in quantized.graph.initializer}
    for name in (name for name in before if name.endswith(".w")):
        assert name not in after
        found = numpy_helper.to_array(after[f"{name}_quantized"])
        assert found.dtype == np.int8
        assert np.abs(found).max() <= 64  # seven bits: no CPU saturates
        exact = numpy_helper.to_array(before[name])
        scale = numpy_helper.to_array(after[f"{name}_scale"])
        assert scale.shape == exact.shape[:1]  # one a channel
        back = found * scale.reshape(-1, *[1] * (exact.ndim - 1))
        assert np.abs(back - exact).max() <= 0.501 * scale.max()
    makers = {name: node.op_type for node in quantized.graph.node for name in node.output}
    assert makers["y"] == "Gemm"


def test_the_batch_stays_dynamic(classifier: bytes) -> None:
    quantized = convert(classifier, "int8", calibration())
    together = run_model(quantized, {"x": images()[:7]})[0]
    apart = run_model(quantized, {"x": images()[:7]}, batch_size=1)[0]
    assert together.shape == (7, 10)
    np.testing.assert_allclose(apart, together, atol=1e-5 * float(np.abs(together).max()))


def test_a_larger_network_is_four_times_smaller() -> None:
    large = conv_net(channels=160, depth=4)
    rng = np.random.default_rng(0)
    quantized = convert(large, "int8", [{"x": rng.standard_normal((2, 3, 16, 16)).astype(np.float32)}])
    assert 3.8 < len(large) / len(quantized) < 4.0  # scales of channels are the rest


def test_weights_of_linear_layers_over_tokens_are_quantized_by_channel() -> None:
    """As they are written: a constant, transposed, by which matrices of more than two dimensions are multiplied."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((5, 8)).astype(np.float32) * np.float32([[0.1], [1], [10], [1], [1]])
    kept = rng.standard_normal((8, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["w"], ["w.t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "w.t"], ["tokens"]),
        helper.make_node("Transpose", ["kept"], ["kept.t"]),  # read as it is, too
        helper.make_node("MatMul", ["tokens", "kept.t"], ["back"]),
        helper.make_node("MatMul", ["back", "kept"], ["y"]),
    ]
    weights = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(kept, "kept")]
    linear = model(nodes, weights, "y", ["batch", 1, 8, 5])
    quantized = convert(linear, "int8", calibration())
    graph = onnx.load_from_string(quantized).graph
    after = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    assert "Transpose" not in {node.op_type for node in graph.node}
    assert not {"w", "w.t", "kept", "kept.t"} & set(after)
    for name, exact in {"w.t": weight.T, "kept.t": kept.T, "kept": kept}.items():
        assert after[f"{name}_quantized"].dtype == np.int8
        back = after[f"{name}_quantized"] * after[f"{name}_scale"]
        assert (np.abs(back - exact) <= 0.51 * after[f"{name}_scale"]).all()
    assert after["w.t_scale"].max() > 20 * after["w.t_scale"].min()
    exact, found = (run_model(m, {"x": images()[1000:]})[0] for m in (linear, quantized))
    assert np.corrcoef(exact.ravel(), found.ravel())[0, 1] > 0.99


def test_ranges_are_those_of_every_tensor_computed_by_the_reference(classifier: bytes) -> None:
    from onnx.reference import ReferenceEvaluator

    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(classifier))
    ranges = activation_ranges(inferred, [{"x": images()[:3]}, {"x": images()[3:5]}])
    watched = [name for name in ranges if name not in ("x", "stem", "filter")]
    assert set(watched) == {"r0", "expand", "r1", "r2", "project", "sum", "pooled", "flat", "y"}
    inferred.graph.output.extend(v for v in inferred.graph.value_info if v.name in watched)
    outputs = ReferenceEvaluator(inferred).run([*watched, "x"], {"x": images()[:5]})
    for name, values in zip([*watched, "x"], outputs, strict=True):
        np.testing.assert_allclose(ranges[name], (values.min(), values.max()), rtol=1e-4, atol=1e-5)
    assert ranges["stem"] == ranges["r0"]  # the quantizer fuses it with its Relu


def test_a_dead_channel_and_attention_quantize_quietly(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, 8)).astype(np.float32)
    weight[:, 3] = 0
    ones = np.ones(8, dtype=np.float32)
    weights = [numpy_helper.from_array(w, n) for w, n in ((weight, "w"), (ones, "scale"), (np.array([0, 8, 8]), "to"))]
    nodes = [
        helper.make_node("Reshape", ["x", "to"], ["tokens"]),
        helper.make_node("LayerNormalization", ["tokens", "scale"], ["normed"]),
        helper.make_node("MatMul", ["normed", "w"], ["q"]),
        helper.make_node("Transpose", ["normed"], ["k"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "k"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"]),
        helper.make_node("MatMul", ["shares", "normed"], ["y"]),
    ]
    net = model(nodes, weights, "y", ["batch", 8, 8])
    with caplog.at_level(logging.INFO):
        quantized = convert(net, "int8", calibration(64))
    assert caplog.records == []
    exact, found = (run_model(m, {"x": images()[500:600]})[0] for m in (net, quantized))
    assert np.corrcoef(exact.ravel(), found.ravel())[0, 1] > 0.99


def test_the_same_arguments_give_the_same_bytes_in_every_process() -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from hardware_profiles.quantize import convert\n"
        "from nas.plugins.testing.onnx_networks import conv_net\n"
        "x = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)\n"
        "print(hashlib.sha256(convert(conv_net(), 'int8', [{'x': x}])).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_fp32_returns_the_model() -> None:
    assert convert(b"anything", "fp32", []) == b"anything"


@pytest.mark.parametrize(
    ("batches", "mention"),
    [
        ([], "got none"),
        ([{"image": np.zeros((1, 1, 8, 8), np.float32)}], "batch 0 has the inputs ['image'], expected ['x']"),
        ([{"x": np.zeros((1, 1, 9, 8), np.float32)}], "Expected: 8"),
        ([{"x": np.full((1, 1, 8, 8), np.nan, np.float32)}], "nan"),
    ],
)
def test_a_calibration_that_does_not_fit_is_rejected(classifier: bytes, batches: Batches, mention: str) -> None:
    with raises("precision.calibration-invalid", mention):
        convert(classifier, "int8", batches)


def test_a_model_that_cannot_be_quantized_is_rejected() -> None:
    relu = helper.make_node("Relu", ["x"], ["y"])
    with raises("precision.unsupported-operation", "no weights", "Conv"):
        convert(model([relu], [], "y", ["batch", 1, 8, 8]), "int8", calibration(64))
    with raises("precision.model-invalid", "opset 13", "has 12"):
        convert(model([relu], [], "y", ["batch", 1, 8, 8], opset=12), "int8", calibration(64))
    with raises("precision.model-invalid"):
        convert(b"\xff\xffno model", "int8", calibration(64))


@pytest.mark.parametrize(
    ("given", "shape"), [("x", ["batch", 1, 8, 8]), ("constant", [4, 1, 3, 3]), ("w", [4, 1, 3, 3])]
)
def test_an_output_that_no_node_computes_is_rejected(given: str, shape: list[int | str]) -> None:
    weights = [numpy_helper.from_array(np.ones((4, 1, 3, 3), np.float32), name) for name in ("w", "constant")]
    net = onnx.load_from_string(model([helper.make_node("Conv", ["x", "w"], ["y"])], weights, "y", ["batch", 4, 6, 6]))
    net.graph.output.append(helper.make_tensor_value_info(given, TensorProto.FLOAT, shape))
    assert len(run_model(net.SerializeToString(), {"x": images()[:2]})) == 2
    with raises("precision.unsupported-operation", f"output {given!r}"):
        convert(net.SerializeToString(), "int8", calibration(64))


def test_an_unknown_precision_is_rejected_with_a_suggestion() -> None:
    for use in (lambda: convert(b"", "int9", []), lambda: check_precision("int9", "CPUExecutionProvider")):
        with raises("precision.unknown", "'int9' (did you mean 'int8'?)", "fp32"):
            use()


def test_a_provider_runs_the_precisions_that_it_computes_in() -> None:
    runs = {
        provider: {p for p in PRECISIONS if _runs(p, provider)}
        for provider in ("CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider", "ElseProvider")
    }
    assert runs == {
        "CPUExecutionProvider": {"fp32", "int8", "int4"},
        "CUDAExecutionProvider": {"fp32", "fp16", "bf16"},
        "TensorrtExecutionProvider": {"fp32", "fp16", "bf16"},
        "ElseProvider": {"fp32"},
    }
    with raises(
        "precision.unsupported-by-provider", "CPUExecutionProvider", "fp16", "fp32, int8", "CUDAExecutionProvider"
    ):
        check_precision("fp16", "CPUExecutionProvider")


def _runs(precision: str, provider: str) -> bool:
    try:
        check_precision(precision, provider)
    except PrecisionError:
        return False
    return True


def test_what_follows_the_last_layer_of_weights_is_computed_in_fp32() -> None:
    rng = np.random.default_rng(0)
    nodes, weights, at = features(16, rng)
    weight = rng.standard_normal((64, 4)).astype(np.float32) / 8
    nodes += [
        helper.make_node("MatMul", [at, "head"], ["sides"]),
        helper.make_node("Mul", ["sides", "stride"], ["distances"]),
        helper.make_node("Add", ["distances", "centre"], ["corners"]),
        helper.make_node("Clip", ["corners", "zero", "side"], ["boxes"]),
    ]
    numbers = {"head": weight, "stride": np.float32(8), "centre": np.float32(300), "side": np.float32(640)}
    weights += [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()]
    content = convert(model(nodes, weights, "boxes", ["batch", 4]), "int8", [{"x": images()[:100]}])
    quantized = onnx.load_from_string(content)
    maker_by_name = {name: node.op_type for node in quantized.graph.node for name in node.output}
    input_by_result = {node.output[0]: node.input[0] for node in quantized.graph.node}
    assert [input_by_result[name] for name in ("boxes", "corners")] == ["corners", "distances"]
    assert maker_by_name["boxes"] == "Clip"
    assert maker_by_name["corners"] == "Add"
