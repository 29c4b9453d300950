"""Static quantization of a model to int8."""

from __future__ import annotations

from collections import Counter
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
"""The first opset in which weights can have a scale per channel."""
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ALONG = ("Relu", "Clip", "Add", "Mul", "GlobalAveragePool", "MaxPool", "AveragePool")
_MOVING = ("Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze")
"""Operations in int8; all others compute in float32, between a dequantization and a quantization."""
_LOOKUPS = ("Gather", "GatherElements", "GatherND", "GridSample", "RoiAlign")
"""Operations whose first input has the values, and whose others have the places to read."""


def quantize(model: bytes, calibration: Sequence[Mapping[str, NDArray[Any]]]) -> bytes:
    """The model in int8: weights symmetric with a scale per output channel, activations uint8 with a scale per tensor.

    Static quantization (Jacob et al. 2018, arXiv 1712.05877) in ONNX's QDQ form, by ONNX Runtime's quantizer; the ranges
    of activations are the least and greatest values on the calibration inputs. Departures: weights use seven bits, because
    CPUs without VNNI saturate when they add two 8-bit products, which would make a network worse on the board than in
    scoring (measured: no loss of accuracy beyond the noise, and the same speed); and outputs, and what follows the last
    operation with weights, stay in float32, because 256 levels of a logit make ties between classes.

    Raises:
        PrecisionError: the model is invalid, too old, has no weights to quantize, or has an output that no node computes;
            or the calibration is empty, does not fit the model, or gives values that are not finite.
    """
    from onnxruntime.quantization import QDQQuantizer, QuantType, TensorData  # late: it takes a quarter of a second

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
        nodes_to_exclude=_nodes_after_weights(prepared.graph),
        op_types_to_quantize=[*_WEIGHTED, *_ALONG, *_MOVING],
        extra_options={},
    )
    quantizer.quantize_model()
    quantized: ModelProto = quantizer.model.model
    if not any(weight.data_type == TensorProto.INT8 for weight in quantized.graph.initializer):
        message = f"the model has no weights to quantize (no {', '.join(_WEIGHTED)} with constant weights); use fp32"
        raise PrecisionError(message, code="precision.unsupported-operation")
    _restore_float_outputs(quantized)
    quantizer.model.topological_sort()  # the quantizer appends nodes, and ONNX requires topological order
    return bytes(quantized.SerializeToString(deterministic=True))


def _prepare(model: bytes) -> ModelProto:
    """The model with a name for each node and a type for each tensor, as the quantizer requires."""
    try:
        prepared = onnx.load_from_string(model)
        onnx.checker.check_model(prepared)
        prepared = onnx.shape_inference.infer_shapes(prepared)
    except (DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise PrecisionError(f"not a valid ONNX model: {error}", code="precision.model-invalid") from None
    opset = next((o.version for o in prepared.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < _MIN_OPSET:
        message = f"int8 needs ONNX opset {_MIN_OPSET} or later, and the model has {opset}; export it again"
        raise PrecisionError(message, code="precision.model-invalid")
    computed = {name for node in prepared.graph.node for name in node.output}
    for value in prepared.graph.output:
        if value.name not in computed:  # the quantizer would remove it, or not terminate
            message = f"int8 does not support output {value.name!r}, which is an input or a constant"
            advice = "put an Identity node before it, or use fp32"
            raise PrecisionError(f"{message}; {advice}", code="precision.unsupported-operation")
    for i, node in enumerate(prepared.graph.node):
        node.name = f"{node.op_type}-{i}"
    _fold_transposes(prepared)
    # Keeps the quantizer from inferring the shapes again, through files.
    prepared.metadata_props.add(key="onnx.infer", value="onnxruntime.quant")
    return prepared


def _nodes_after_weights(graph: GraphProto) -> list[str]:
    """The names of the operations without weights whose results reach no operation with weights, as the decoding of boxes.

    In int8 they would be no faster (measured), and would round corners of boxes to a 255th of the image's side.
    """
    reaching: set[str] = set()
    names = []
    for node in reversed(graph.node):
        if node.op_type in _WEIGHTED or not reaching.isdisjoint(node.output):
            reaching.update(node.input[:1] if node.op_type in _LOOKUPS else node.input)
        else:
            names.append(node.name)
    return names


def _fold_transposes(model: ModelProto) -> None:
    """Replaces a constant and its Transpose node by the transposed constant.

    Linear layers of more than two dimensions are exported in this form. The quantizer would treat their weights as
    activations, with one scale for all channels, and keep them in float32.
    """
    graph = model.graph
    io_names = {value.name for value in [*graph.input, *graph.output]}
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in io_names}
    transposes = [node for node in graph.node if node.op_type == "Transpose"]
    folded = [node for node in transposes if node.input[0] in constants and node.output[0] not in io_names]
    for node in folded:
        perm = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), None)
        values = onnx.numpy_helper.to_array(constants[node.input[0]]).transpose(perm)
        graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), node.output[0]))
        graph.node.remove(node)
    for name in {node.input[0] for node in folded} - _input_names(graph):
        graph.initializer.remove(constants[name])


def _input_names(graph: GraphProto) -> set[str]:
    """The names that the nodes of a graph read, subgraphs included."""
    names = {name for node in graph.node for name in node.input}
    inner = (attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g"))
    return names.union(*map(_input_names, inner))


def _restore_float_outputs(model: ModelProto) -> None:
    """Removes the quantization of the graph's outputs where nothing else reads it."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    n_readers = Counter(name for node in graph.node for name in node.input)
    for value in graph.output:
        dequantize = makers[value.name]
        quantize_ = makers.get(dequantize.input[0]) if dequantize.op_type == "DequantizeLinear" else None
        source = makers.get(quantize_.input[0]) if quantize_ is not None else None
        names = [value.name, dequantize.input[0]]
        if quantize_ is None or source is None or [n_readers[name] for name in names] != [0, 1]:
            continue
        if n_readers[quantize_.input[0]] == 1:
            source.output[list(source.output).index(quantize_.input[0])] = value.name
            graph.node.remove(dequantize)
            graph.node.remove(quantize_)
