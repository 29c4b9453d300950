"""Puts the resizing and normalisation of images into an ONNX graph, bit for bit as Pillow and the training do them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from nas.errors import ExportFailedError
from nas.results.export.manifest import NO_TOKENIZERS
from supernets.data import BlockFormat, Format, ImageFormat, RowFormat, TextFormat

IMAGE = "image"
"""The input of such a graph: decoded bytes, (batch, height, width, channels)."""
STEPS = ("crop", "resize", "scale", "mean", "std")
"""The steps that the graph does; files are still decoded, turned upright and converted to grey or RGB before it."""
_PRECISION_BITS = 22
"""Of the fixed-point weights with which Pillow resizes bytes (``PRECISION_BITS`` in its Resample.c)."""
_PADDING = 114.0
"""The grey of a letterbox."""


def check_available(format: Format) -> None:
    """Raises `ExportFailedError` for preprocessing that has no ONNX operators."""
    if isinstance(format, TextFormat | BlockFormat):
        raise ExportFailedError(NO_TOKENIZERS, code="export.preprocessing-unavailable")
    if isinstance(format, RowFormat):
        problem = "a model takes images as they are where it is of images, and this run is of rows of numbers"
        raise ExportFailedError(f"{problem}; its manifest has their means", code="export.preprocessing-unavailable")
    if format.resizing not in ("pillow", "letterbox"):
        problem = f"version 0.1 resized the images of this run in another way ({format.resizing})"
        raise ExportFailedError(f"{problem}; train again with this version", code="export.preprocessing-unavailable")
    if format.interpolation not in _FILTERS:
        problem = (
            f"the images of this run were resized by {format.interpolation} interpolation, and a model can resize by"
        )
        available = " or ".join(_FILTERS)
        raise ExportFailedError(
            f"{problem} {available}; use the export's script, or train with data.interpolation: bilinear",
            code="export.preprocessing-unavailable",
        )


def add_preprocessing(model: bytes, format: ImageFormat) -> bytes:
    """The model with the input `IMAGE` (uint8, images of any one size) in place of the preprocessed one."""
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    steps = _Steps()
    _normalise(steps, _resize(steps, IMAGE, format), format, output=graph.input[0].name)
    nodes = [*steps.nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(steps.constants)
    shape = [graph.input[0].type.tensor_type.shape.dim[0].dim_param, "height", "width", format.channels]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, shape))
    return bytes(proto.SerializeToString())


class _Steps:
    """Nodes in the order of their calls, with the constants that they read."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Appends a node; returns the name of its output."""
        name = output or f"preprocessing.{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def constant(self, value: float | NDArray[Any], kind: Any = np.float64) -> str:
        """Adds a constant; returns its name."""
        name = f"preprocessing.constant.{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=kind), name))
        return name


def _resize(add: _Steps, image: str, format: ImageFormat) -> str:
    """The bytes of the images as `format` resizes them, (batch, channels, size, size), as whole numbers in float64.

    Rows first, then columns, each by weights of `_PRECISION_BITS` binary digits, and rounded to bytes.
    """
    shape = add("Shape", image)
    height, width = (add("Gather", shape, add.constant(axis, np.int64)) for axis in (1, 2))
    pixels = add("Cast", add("Transpose", image, perm=[0, 3, 1, 2]), to=TensorProto.DOUBLE)
    if format.resizing == "letterbox":
        return _letterbox(add, pixels, height, width, format)
    side, size = add("Min", height, width), add.constant(format.image_size, np.int64)
    across, down = (_weights(add, length, _box(add, length, side, format), size, format) for length in (width, height))
    return _two_passes(add, pixels, across, down)


def _two_passes(add: _Steps, pixels: str, across: str, down: str) -> str:
    """Pixels (batch, channels, height, width) resized by weights (width, new width), and then (height, new height)."""
    narrow = _bytes(add, add("MatMul", pixels, across))
    return _bytes(add, add("MatMul", add("Transpose", down, perm=[1, 0]), narrow))


def _letterbox(add: _Steps, pixels: str, height: str, width: str, format: ImageFormat) -> str:
    """Whole images in a grey square; as `supernets.data.preprocessing.letterbox`."""
    two, size, unit = (add.constant(number, np.int64) for number in (2, format.image_size, 1))
    longest, zero = add("Max", height, width), add.constant(0.0)
    weights, margins = [], []
    for length in (width, height):
        doubled = add("Add", add("Mul", add("Mul", length, size), two), longest)
        new = add("Max", add("Div", doubled, add("Mul", longest, two)), unit)
        span = zero, add("Cast", length, to=TensorProto.DOUBLE)
        weights.append(_weights(add, length, span, new, format))
        first = add("Div", add("Sub", size, new), two)
        margins.append((first, add("Sub", add("Sub", size, new), first)))
    resized = _two_passes(add, pixels, *weights)
    (left, right), (top, bottom) = margins
    no_pixels, axes = add.constant(np.zeros(2), np.int64), add.constant(np.array([0]), np.int64)
    firsts, lasts = ((add("Unsqueeze", side, axes) for side in sides) for sides in ((top, left), (bottom, right)))
    pads = add("Concat", no_pixels, *firsts, no_pixels, *lasts, axis=0)
    return add("Pad", resized, pads, add.constant(_PADDING))


def _box(add: _Steps, length: str, side: str, format: ImageFormat) -> tuple[str, str]:
    """Start and length of the part of a dimension that is cropped, in float64.

    As `supernets.data.preprocessing.square` and `centre`; Pillow keeps both ends in float32.
    """
    if format.of_square:
        first = add("Div", add("Sub", length, side), add.constant(2, np.int64))
        return tuple(add("Cast", bound, to=TensorProto.DOUBLE) for bound in (first, side))  # type: ignore[return-value]
    size, short = format.image_size, int(format.image_size / format.crop + 1e-6)
    resized = add("Div", add("Mul", length, add.constant(short, np.int64)), side)
    margin = add("Cast", add("Sub", resized, add.constant(size, np.int64)), to=TensorProto.DOUBLE)
    first = add("Cast", add("Round", add("Mul", margin, add.constant(0.5))), to=TensorProto.INT64)
    ends = []
    for end in (first, add("Add", first, add.constant(size, np.int64))):
        exact = add("Cast", add("Mul", end, length), to=TensorProto.DOUBLE)
        place = add("Div", exact, add("Cast", resized, to=TensorProto.DOUBLE))
        ends.append(add("Cast", place, to=TensorProto.FLOAT))
    return add("Cast", ends[0], to=TensorProto.DOUBLE), add("Cast", add("Sub", *reversed(ends)), to=TensorProto.DOUBLE)


def _weights(add: _Steps, length: str, box: tuple[str, str], size: str, format: ImageFormat) -> str:
    """The fixed-point weight of each old pixel of a dimension for each new one, (length, size).

    The filter around the new pixel's centre, stretched by the distance of new pixels where these are farther apart than the old
    ones (antialiasing).

    Args:
        length, size: Numbers of old and of new pixels, int64.
        box: Start and length of the part that is resized, in float64.
    """
    half, unit = add.constant(0.5), add.constant(1.0)
    first, extent = box
    scale = add("Div", extent, add("Cast", size, to=TensorProto.DOUBLE))
    reach = add("Max", scale, unit)
    zero, step = add.constant(0, np.int64), add.constant(1, np.int64)
    places, new_places = (add("Cast", add("Range", zero, end, step), to=TensorProto.DOUBLE) for end in (length, size))
    centre = add("Add", first, add("Mul", add("Add", new_places, half), scale))
    column = add("Unsqueeze", places, add.constant(np.array([1]), np.int64))
    distance = add("Mul", add("Add", add("Sub", column, centre), half), add("Div", unit, reach))
    weight = _FILTERS[format.interpolation](add, add("Abs", distance))
    total = add("ReduceSum", weight, add.constant(np.array([0]), np.int64), keepdims=1)
    fixed = add("Mul", add("Div", weight, total), add.constant(2.0**_PRECISION_BITS))
    return add("Mul", add("Sign", fixed), add("Floor", add("Add", add("Abs", fixed), half)))


def _triangle(add: _Steps, x: str) -> str:
    """Pillow's bilinear filter at distances from a pixel's centre."""
    return add("Max", add("Sub", add.constant(1.0), x), add.constant(0.0))


def _cubic(add: _Steps, x: str) -> str:
    """Pillow's bicubic filter (Keys 1981 with a = -0.5), in the order of its operations."""

    def polynomial(*coefficients: float) -> str:
        partial_sum = add.constant(coefficients[0])
        for coefficient in coefficients[1:]:
            partial_sum = add("Add", add("Mul", partial_sum, x), add.constant(coefficient))
        return partial_sum

    near = polynomial(1.5, -2.5, 0.0, 1.0)
    far = add("Mul", polynomial(1.0, -5.0, 8.0, -4.0), add.constant(-0.5))
    beyond = add("Where", add("Less", x, add.constant(2.0)), far, add.constant(0.0))
    return add("Where", add("Less", x, add.constant(1.0)), near, beyond)


_FILTERS = {"bilinear": _triangle, "bicubic": _cubic}


def _bytes(add: _Steps, sums: str) -> str:
    """Fixed-point sums, exact in float64, as whole numbers from 0 to 255."""
    rounded = add("Add", sums, add.constant(2.0 ** (_PRECISION_BITS - 1)))
    pixels = add("Floor", add("Div", rounded, add.constant(2.0**_PRECISION_BITS)))
    return add("Clip", pixels, add.constant(0.0), add.constant(255.0))


def _normalise(add: _Steps, pixels: str, format: ImageFormat, *, output: str) -> None:
    """The inputs of the network: each byte's in the table of its channel."""
    every = np.broadcast_to(np.arange(256, dtype=np.uint8), (format.channels, 1, 256))
    offsets = 256 * np.arange(format.channels)[:, None, None]
    places = add("Add", add("Cast", pixels, to=TensorProto.INT64), add.constant(offsets, np.int64))
    add("Gather", add.constant(format.inputs(every).ravel(), np.float32), places, output=output)
