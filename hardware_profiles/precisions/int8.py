"""A model in eight bits, by static quantization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto

from hardware_profiles.errors import PrecisionError
from hardware_profiles.precisions.ranges import activation_ranges

_MIN_OPSET = 13
"""The first in which weights can have a scale for each channel."""
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ALONG = ("Relu", "Clip", "Add", "Mul", "GlobalAveragePool", "MaxPool", "AveragePool")
_MOVING = ("Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze")
"""Operations in eight bits; all others compute in float32, between a dequantization and a quantization."""


def quantize(model: bytes, calibration: Sequence[Mapping[str, NDArray[Any]]]) -> bytes:
    """The model in int8: weights symmetric with a scale for each output channel, activations uint8 with a scale each.

    Static quantization (Jacob et al. 2018, arXiv 1712.05877) in ONNX's QDQ form, by ONNX Runtime's quantizer; the ranges
    of activations are the least and greatest values that the calibration inputs give. Departures: weights keep to seven
    bits, because CPUs without VNNI saturate where two products of eight are added, and a network would be worse on the
    board than where it was scored (measured: no loss of accuracy beyond the noise, and the same speed); and outputs stay
    in float32, because 256 levels of a logit make ties between classes.

    Args:
        calibration: real inputs by name, a mapping a batch.

    Raises:
        PrecisionError: the model is none, too old, without weights to quantize, or gives out what no node of it makes; or
            the calibration is empty, not what the model takes, or gives values that are no finite numbers.
    """
    from onnxruntime.quantization import QDQQuantizer, QuantType, TensorData  # late: a quarter of a second

    prepared = _prepare(model)
    ranges = activation_ranges(prepared, calibration)
    quantizer = QDQQuantizer(
        prepared,
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range={name: TensorData(lowest=low, highest=high) for name, (low, high) in ranges.items()},
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=[*_WEIGHTED, *_ALONG, *_MOVING],
        extra_options={},
    )
    quantizer.quantize_model()
    quantized: ModelProto = quantizer.model.model
    if not any(weight.data_type == TensorProto.INT8 for weight in quantized.graph.initializer):
        raise PrecisionError(
            f"the model has no weights to quantize (no {', '.join(_WEIGHTED)} with constant weights); run it in fp32"
        )
    _leave_outputs(quantized)
    quantizer.model.topological_sort()  # the quantizer appends, and ONNX wants nodes after what they read
    return bytes(quantized.SerializeToString(deterministic=True))


def _prepare(model: bytes) -> ModelProto:
    """The model with a name for each node and a type for each tensor, as the quantizer wants it."""
    try:
        found = onnx.load_from_string(model)
        onnx.checker.check_model(found)
        found = onnx.shape_inference.infer_shapes(found)
    except (DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise PrecisionError(f"this is no valid ONNX model: {error}") from None
    opset = next((o.version for o in found.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < _MIN_OPSET:
        raise PrecisionError(
            f"int8 needs a model of ONNX opset {_MIN_OPSET} or later, this one has {opset}; export it anew"
        )
    made = {name for node in found.graph.node for name in node.output}
    for value in found.graph.output:
        if value.name not in made:  # the quantizer would take it away, or go round in circles
            raise PrecisionError(
                f"output {value.name!r} of the model is one of its inputs or constants as it is, which int8 cannot keep; "
                "put an Identity node before it, or run the model in fp32"
            )
    for i, node in enumerate(found.graph.node):
        node.name = f"{node.op_type}-{i}"
    _fold_transposes(found)
    # The quantizer would infer the shapes again, through files.
    found.metadata_props.add(key="onnx.infer", value="onnxruntime.quant")
    return found


def _fold_transposes(model: ModelProto) -> None:
    """Puts transposed constants in place of constants and their transpositions.

    Linear layers of more than two dimensions are written so. The quantizer would take their weights for activations, with
    one scale for all channels, and keep them in float32.
    """
    graph = model.graph
    given = {value.name for value in [*graph.input, *graph.output]}
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in given}
    folded = [
        node
        for node in graph.node
        if node.op_type == "Transpose" and node.input[0] in constants and node.output[0] not in given
    ]
    for node in folded:
        perm = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), None)
        values = onnx.numpy_helper.to_array(constants[node.input[0]]).transpose(perm)
        graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), node.output[0]))
        graph.node.remove(node)
    read = _read(graph)
    for name in {node.input[0] for node in folded} - read:
        graph.initializer.remove(constants[name])


def _read(graph: GraphProto) -> set[str]:
    """Names of what the nodes of a graph read, those of its inner graphs included."""
    found = {name for node in graph.node for name in node.input}
    inner = (attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g"))
    return found.union(*map(_read, inner))


def _leave_outputs(model: ModelProto) -> None:
    """Takes the quantization of the graph's outputs out again, where nothing else reads it."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    n_readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            n_readers[name] = n_readers.get(name, 0) + 1
    for value in graph.output:
        dequantize = makers[value.name]
        quantize_ = makers.get(dequantize.input[0]) if dequantize.op_type == "DequantizeLinear" else None
        source = makers.get(quantize_.input[0]) if quantize_ is not None else None
        names = [value.name, dequantize.input[0]]
        if quantize_ is None or source is None or [n_readers.get(name, 0) for name in names] != [0, 1]:
            continue
        if n_readers[quantize_.input[0]] == 1:
            source.output[list(source.output).index(quantize_.input[0])] = value.name
            graph.node.remove(dequantize)
            graph.node.remove(quantize_)
