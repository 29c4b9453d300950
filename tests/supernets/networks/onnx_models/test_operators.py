"""Each ONNX operator as the importer runs it, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from supernets.networks.onnx_models.opening import open_onnx
from tests.supernets.networks.onnx_models.files import N, model_of, random, write

INT, FLOAT = np.int64, np.float32
IMAGE, ROWS, TOKENS = (N, 4, 7, 6), (N, 6), (N, 5, 8)
V = random(2)
Case = tuple[str, Sequence[int | str], Mapping[str, Any], Sequence[Any], int]
"""An operator, the shape of its input, its attributes, its further inputs (None for one that is left out), and an opset."""


def ints(*numbers: int) -> np.ndarray[Any, Any]:
    return np.array(numbers, INT)


def case(
    op: str, shape: Sequence[int | str] = ROWS, inputs: Sequence[Any] = (), opset: int = 18, **attributes: Any
) -> Case:
    return op, shape, attributes, inputs, opset


UNARY = [
    *("Abs", "Acos", "Asin", "Atan", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "HardSwish", "IsNaN", "Log", "Mish"),
    *("Neg", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan"),
    *("Tanh", "Elu", "Selu", "Celu", "HardSigmoid", "LeakyRelu", "ThresholdedRelu", "Identity", "Dropout", "Softmax"),
    *("LogSoftmax", "Hardmax", "IsInf"),
]
COMPARISONS = ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]
BINARY = ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", *COMPARISONS]
REDUCTIONS = ["Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp"]
CASES: list[Case] = [
    *(case(op) for op in UNARY),
    *(case(op, ROWS, [random(6) + 0.1]) for op in BINARY),
    *(case(op, ROWS, [FLOAT(1.5)]) for op in BINARY),
    *(case(f"Reduce{op}", IMAGE, opset=13, axes=[1, 3]) for op in REDUCTIONS if op != "Sum"),
    *(case(f"Reduce{op}", IMAGE, [ints(-1)], keepdims=0) for op in REDUCTIONS),
    *(case(op, IMAGE, opset=11, axis=1) for op in ("Softmax", "LogSoftmax")),
    *(case(op, TOKENS, axis=1) for op in ("Softmax", "LogSoftmax")),
    *(case("Gelu", approximate=mode, opset=20) for mode in ("none", "tanh")),
    case("HardSigmoid", alpha=1 / 6, beta=0.5),
    case("Elu", alpha=0.5),
    case("Selu", alpha=1.2, gamma=0.7),
    case("Selu", gamma=0.0),
    case("Hardmax", IMAGE, opset=11),
    *(case(f"Reduce{op}", IMAGE, [ints()], noop_with_empty_axes=1) for op in REDUCTIONS),
    case("Celu", alpha=2.0),
    case("PRelu", IMAGE, [random(4, 1, 1)]),
    case("PRelu", IMAGE, [random(1)]),
    case("PRelu", IMAGE, [random(4, 7, 6)]),
    case("Clip", opset=6 + 1, min=-0.2, max=0.3),
    case("Clip", inputs=[FLOAT(-0.2), FLOAT(0.3)]),
    case("Clip", inputs=[None, FLOAT(0.3)]),
    case("Clip", inputs=[FLOAT(0), FLOAT(6)]),
    case("Mod", inputs=[random(6)], fmod=1),
    # Layers
    case("Conv", IMAGE, [random(3, 4, 3, 3), random(3)], pads=[1, 1, 1, 1]),
    case("Conv", IMAGE, [random(3, 4, 3, 3)], pads=[0, 1, 1, 2], strides=[2, 2]),
    case("Conv", IMAGE, [random(8, 1, 3, 2)], group=4, dilations=[2, 1]),
    case("Conv", IMAGE, [random(8, 2, 3, 2)], group=2, auto_pad="SAME_UPPER", strides=[2, 3]),
    case("Conv", IMAGE, [random(8, 4, 2, 2)], auto_pad="SAME_LOWER"),
    case("Conv", IMAGE, [random(8, 4, 2, 2)], auto_pad="VALID"),
    case("Conv", (N, 4, 9), [random(8, 4, 3)], strides=[2]),
    case("Conv", (N, 4, 5, 5, 5), [random(2, 4, 3, 3, 3)], pads=[1] * 6),
    case(
        "ConvTranspose",
        IMAGE,
        [random(4, 3, 3, 3), random(3)],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        output_padding=[1, 1],
    ),
    case("ConvTranspose", IMAGE, [random(4, 3, 2, 2)], strides=[2, 2]),
    case("ConvTranspose", IMAGE, [random(4, 3, 3, 3)], strides=[2, 2], pads=[0, 0, 1, 1]),
    case("ConvTranspose", IMAGE, [random(4, 3, 3, 3)], strides=[2, 2], pads=[1, 1, 0, 0]),
    case("ConvTranspose", IMAGE, [random(4, 2, 3, 3)], strides=[2, 2], group=2, auto_pad="SAME_UPPER"),
    case("ConvTranspose", IMAGE, [random(4, 2, 3, 3)], strides=[2, 2], auto_pad="SAME_LOWER"),
    case("ConvTranspose", IMAGE, [random(4, 2, 3, 3)], strides=[2, 2], output_shape=[13, 12]),
    case("ConvTranspose", (N, 4, 9), [random(4, 2, 3)], strides=[3], dilations=[2]),
    case("Gemm", ROWS, [random(6, 3), random(3)]),
    case("Gemm", ROWS, [random(3, 6), random(1, 3)], transB=1, beta=0.5),
    case("Gemm", ROWS, [random(6, 3), random(1)], alpha=0.5),
    case("MatMul", ROWS, [random(6, 3)]),
    case("MatMul", TOKENS, [random(8, 3)]),
    case("MatMul", (2, 5, 8), [random(2, 8, 3)]),
    case("Einsum", TOKENS, [random(8, 3)], equation="n t c, c d -> n d t"),
    case("BatchNormalization", IMAGE, [random(4), random(4), random(4), random(4) ** 2 + 0.1], epsilon=1e-3),
    case("InstanceNormalization", IMAGE, [random(4), random(4)]),
    case("InstanceNormalization", (N, 4, 1, 1), [random(4), random(4)]),
    case("GroupNormalization", IMAGE, [random(2), random(2)], num_groups=2),
    case("GroupNormalization", IMAGE, [random(4), random(4)], opset=21, num_groups=2),
    case("LayerNormalization", TOKENS, [random(8), random(8)], axis=-1, epsilon=1e-3),
    case("LayerNormalization", IMAGE, [random(4, 7, 6)], axis=1),
    case("RMSNormalization", TOKENS, [random(8)], opset=23),
    case("LRN", IMAGE, size=3, alpha=0.1, beta=0.7, bias=1.5),
    case("LpNormalization", TOKENS, p=1),
    case("LpNormalization", TOKENS, p=2, axis=1),
    case("GlobalAveragePool", IMAGE),
    case("GlobalMaxPool", IMAGE),
    *(
        case(op, IMAGE, kernel_shape=[3, 2], **options)
        for op in ("MaxPool", "AveragePool")
        for options in (
            {"strides": [2, 2], "pads": [1, 1, 1, 1]},
            {"strides": [2, 2], "pads": [0, 0, 1, 1]},
            {"strides": [2, 2], "ceil_mode": 1},
            {"strides": [2, 4], "ceil_mode": 1, "pads": [0, 0, 2, 1]},
            {"strides": [3, 2], "ceil_mode": 1, "pads": [2, 0, 0, 1]},
            {"strides": [2, 1], "auto_pad": "SAME_UPPER"},
            {"auto_pad": "SAME_LOWER"},
        )
    ),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[0, 0, 1, 1], count_include_pad=1),
    case("MaxPool", (N, 4, 9), kernel_shape=[3]),
    *(case("DepthToSpace", (N, 8, 3, 2), blocksize=2, mode=mode) for mode in ("DCR", "CRD")),
    case("SpaceToDepth", (N, 2, 6, 4), blocksize=2),
    case("Attention", (N, 4, 5, 8), ["x", "x"], opset=23),
    case("Attention", (N, 5, 8), ["x", "x"], opset=23, q_num_heads=2, kv_num_heads=2, is_causal=1),
    case("Attention", (N, 4, 5, 8), ["x", "x", random(5, 5)], opset=23, scale=0.3),
    # Recurrent layers, whose sequences come first
    *(
        case(
            op, (5, N, 3), [random(d, g * 4, 3), random(d, g * 4, 4), *bias(d, g)], hidden_size=4, direction=way, **more
        )
        for op, g, more in (("LSTM", 4, {}), ("GRU", 3, {"linear_before_reset": 1}), ("RNN", 1, {}))
        for d, way in ((1, "forward"), (2, "bidirectional"))
        for bias in ((lambda d, g: [random(d, 2 * g * 4)]), (lambda d, g: []))
    ),
    # Shapes and positions
    case("Reshape", IMAGE, [ints(0, -1)]),
    case("Reshape", IMAGE, [ints(-1, 4, 42)]),
    case("Flatten", IMAGE),
    case("Flatten", IMAGE, axis=2),
    case("Transpose", IMAGE, perm=[0, 2, 3, 1]),
    case("Squeeze", (N, 1, 6, 1), [ints(1)]),
    case("Squeeze", (N, 1, 6, 1), opset=11, axes=[1, -1]),
    case("Squeeze", (N, 1, 6, 1)),
    case("Unsqueeze", ROWS, [ints(1, -1)]),
    case("Unsqueeze", ROWS, opset=11, axes=[1]),
    case("Concat", ROWS, ["x", random(2, 3)], axis=1),
    case("Slice", IMAGE, [ints(1, -4), ints(3, 100), ints(1, 2)]),
    case("Slice", IMAGE, [ints(-1), ints(-100), ints(3), ints(-1)]),
    case("Slice", IMAGE, [ints(4), ints(0), ints(3), ints(-2)]),
    case("Slice", IMAGE, [ints(0), ints(6), ints(3), ints(2)]),
    case("Slice", IMAGE, [ints(-100), ints(-1000), ints(3), ints(-1)]),
    case("Slice", IMAGE, opset=9, starts=[1], ends=[3], axes=[1]),
    case("Gather", TOKENS, [ints(0)[0]], axis=1),
    case("Gather", TOKENS, [ints(2, -1)], axis=1),
    case("Gather", TOKENS, [ints(0, 1, 2, 3, 4)], axis=1),
    case("Gather", TOKENS, [ints(2, -1, 0, 0).reshape(2, 2)], axis=2),
    case("GatherElements", (2, 6), [ints(2, -1, 0, 0).reshape(2, 2)], axis=1),
    case("ScatterND", (2, 6), [ints(0, 3, 1, 1).reshape(2, 2), random(2)]),
    case("Expand", (N, 1, 6), [ints(1, 3, 1)]),
    case("Tile", ROWS, [ints(1, 2)]),
    *(case("Pad", IMAGE, [ints(0, 0, 1, 2, 0, 0, 2, 1)], mode=mode) for mode in ("constant", "reflect", "edge")),
    case("Pad", IMAGE, [ints(0, 0, 1, 2, 0, 0, 2, 1)], opset=19, mode="wrap"),
    case("Pad", IMAGE, [ints(0, 1, 0, 0, 0, 0, -2, 1), FLOAT(3)]),
    case("Pad", IMAGE, [ints(0, 0, 0, 0, 0, 0, 0, 2)], mode="reflect"),
    case("Pad", TOKENS, [ints(1, 2), FLOAT(1), ints(1)]),
    case("Pad", IMAGE, opset=9, pads=[0, 0, 1, 2, 0, 0, 2, 1], value=2.0),
    case("Trilu", (N, 5, 5), [ints(1)[0]]),
    case("Trilu", (N, 5, 5), upper=0),
    case("CumSum", ROWS, [ints(1)[0]]),
    case("CumSum", ROWS, [ints(1)[0]], exclusive=1, reverse=1),
    case("ArgMax", IMAGE, axis=1),
    case("ArgMin", IMAGE, axis=-1, keepdims=0),
    # Resizing
    *(
        case("Resize", IMAGE, [None, np.array([1, 1, *scales], FLOAT)], mode=mode, coordinate_transformation_mode=how)
        for scales in ((2, 2), (1.5, 0.5), (3, 1.2))
        for mode in ("nearest", "linear", "cubic")
        for how in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    ),
    *(
        case(
            "Resize",
            IMAGE,
            [None, np.array([1, 1, 2, 3], FLOAT)],
            nearest_mode=mode,
            coordinate_transformation_mode="asymmetric",
        )
        for mode in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        for how in ("asymmetric", "tf_half_pixel_for_nn")
    ),
    case("Resize", IMAGE, [None, None, ints(2, 4, 9, 11)], mode="linear"),
    case("Resize", IMAGE, [None, np.array([1, 1, 0.5, 0.4], FLOAT)], mode="linear", antialias=1),
    case("Resize", IMAGE, [np.array([1, 1, 2, 2], FLOAT)], opset=10, mode="linear"),
    case("Upsample", IMAGE, [np.array([1, 1, 2, 2], FLOAT)], opset=9),
]


def title(value: Case) -> str:
    op, shape, attributes, inputs, opset = value
    return f"{op}-{opset}-{len(shape)}d-{len(inputs)}-{'-'.join(f'{k}={v}' for k, v in attributes.items())}"[:90]


def model(value: Case, tmp_path: Path) -> Path:
    op, shape, attributes, inputs, opset = value
    constants = {f"c{i}": array for i, array in enumerate(inputs) if array is not None and not isinstance(array, str)}
    names = ["x", *("" if a is None else a if isinstance(a, str) else f"c{i}" for i, a in enumerate(inputs))]
    nodes = [
        helper.make_node("Add", ["x", "zero"], ["x1"]),  # so that a constant input is not the graph's own
        helper.make_node(op, ["x1", *names[1:]], ["out"], name="node", **attributes),
        helper.make_node("Cast", ["out"], ["y0"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["y0", "zero"], ["y"]),
    ]
    return write(tmp_path / "model.onnx", model_of(nodes, shape, constants | {"zero": FLOAT(0)}, opset=opset))


@pytest.mark.parametrize("value", CASES, ids=title)
def test_the_result_is_that_of_onnx_runtime(value: Case, tmp_path: Path) -> None:
    path = model(value, tmp_path)
    opened = open_onnx(path)
    x = torch.randn(
        [2 if isinstance(size, str) else size for size in value[1]], generator=torch.Generator().manual_seed(3)
    )
    assert opened.original is not None
    with np.errstate(all="ignore"):
        assert opened.original.check(opened.module, x) == ()
