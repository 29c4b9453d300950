"""Conversion of a model to fp16 or bf16."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from hardware_profiles.errors import PrecisionError

_TYPES: Mapping[str, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_BF16_OPSET = 22
"""The first opset in which convolution and pooling accept bf16."""


def to_half(model: bytes, precision: str) -> bytes:
    """The model with weights and activations in ``fp16`` or ``bf16``; casts keep its float32 inputs and outputs.

    For bf16, an older opset is converted to 22.

    Raises:
        PrecisionError: the model is invalid, a weight is too large for fp16, or an operation does not support the type.
    """
    kind = _TYPES[precision]
    try:
        converted = onnx.load_from_string(model)
        onnx.checker.check_model(converted)
        opset = next((o.version for o in converted.opset_import if o.domain in ("", "ai.onnx")), 0)
        if precision == "bf16" and opset < _BF16_OPSET:
            converted = onnx.version_converter.convert_version(converted, _BF16_OPSET)
    except (DecodeError, onnx.checker.ValidationError, RuntimeError) as error:
        message = f"cannot convert the model to {precision}: {error}"
        raise PrecisionError(message, code="precision.model-invalid") from None
    graph = converted.graph
    for weight in graph.initializer:
        _convert_tensor(weight, kind, precision)
    for node in graph.node:
        _convert_node(node, kind, precision)
    _cast_ends(graph, kind)
    del graph.value_info[:]  # their types are outdated
    try:
        onnx.shape_inference.infer_shapes(converted, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        message = f"an operation of the model does not support {precision}; use fp32: {error}"
        raise PrecisionError(message, code="precision.unsupported-operation") from None
    return bytes(converted.SerializeToString(deterministic=True))


def _convert_tensor(tensor: TensorProto, kind: int, precision: str) -> None:
    if tensor.data_type != TensorProto.FLOAT:
        return
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        halves = values.astype(helper.tensor_dtype_to_np_dtype(kind))
    if not np.isfinite(halves.astype(np.float32))[np.isfinite(values)].all():
        message = f"tensor {tensor.name!r} has the value {np.abs(values).max():.3g}, outside the range of {precision}"
        raise PrecisionError(f"{message}; use bf16 or fp32", code="precision.overflow")
    tensor.CopyFrom(numpy_helper.from_array(halves, tensor.name))


def _convert_node(node: NodeProto, kind: int, precision: str) -> None:
    """Converts the node's attributes in place: constants, and the type of casts to float32."""
    for attribute in node.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            message = f"{node.op_type} contains a subgraph, which cannot be converted; use fp32"
            raise PrecisionError(message, code="precision.unsupported-operation")
        if attribute.type == onnx.AttributeProto.TENSOR:
            _convert_tensor(attribute.t, kind, precision)
        elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = kind
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            values = np.array(attribute.f if attribute.name == "value_float" else attribute.floats, dtype=np.float32)
            tensor = numpy_helper.from_array(values, node.output[0])
            _convert_tensor(tensor, kind, precision)
            attribute.CopyFrom(helper.make_attribute("value", tensor))


def _cast_ends(graph: GraphProto, kind: int) -> None:
    """Puts a cast after each float32 input and before each float32 output."""
    weights = {weight.name for weight in graph.initializer}
    inputs = [v.name for v in graph.input if v.name not in weights and _is_float(v)]
    outputs = [v.name for v in graph.output if _is_float(v)]
    for value in graph.input:  # weights may be declared as inputs
        if value.name in weights and _is_float(value):
            value.type.tensor_type.elem_type = kind
    inner = {name: f"{name}-{kind}" for name in (*inputs, *outputs)}
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = inner.get(name, name)
    nodes = [helper.make_node("Cast", [name], [inner[name]], to=kind) for name in inputs]
    nodes += graph.node
    nodes += [helper.make_node("Cast", [inner[name]], [name], to=TensorProto.FLOAT) for name in outputs]
    del graph.node[:]
    graph.node.extend(nodes)


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT)
