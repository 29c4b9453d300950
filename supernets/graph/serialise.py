"""Serialisation of nodes and arrays to the bytes of an ONNX model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from supernets.graph.ir import BATCH_SIZE, LENGTH, Attribute, Node, Shape

OPSET = 18
"""The default of torch's exporter."""
IR_VERSION = 10
"""Supported by runtimes since 2024 (onnx 1.16)."""
Buffer = bytes | memoryview
_TYPES = {np.dtype(np.float32): onnx.TensorProto.FLOAT, np.dtype(np.int64): onnx.TensorProto.INT64}


def serialise(
    nodes: Sequence[Node],
    arrays: Mapping[str, NDArray[np.generic]],
    *,
    inputs: Sequence[tuple[str, str, Shape]],
    output: tuple[str, str, Shape],
    batch: str,
    length: str,
    integers: Collection[str],
) -> bytes:
    """The bytes of a model with one output.

    Args:
        inputs: the name in the nodes, the name in the model and the shape of each.
        output: the same for the output.
        batch, length: names of the dynamic batch size and number of tokens.
        integers: names (in the nodes) of integer inputs.
    """
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="subnet-nas")
    model.opset_import.add(domain="", version=OPSET)
    graph = onnx.GraphProto(name="network")
    renamed = {inner: name for inner, name, _ in (*inputs, output)}
    for node in nodes:
        proto = graph.node.add(op_type=node.op, name=node.outputs[0])
        proto.input.extend([renamed.get(name, name) for name in node.inputs])
        proto.output.extend([renamed.get(name, name) for name in node.outputs])
        for key, value in node.attributes.items():
            _write_attribute(proto, key, value)
    dynamic = {BATCH_SIZE: batch, LENGTH: length}
    ends = [*((graph.input, one) for one in inputs), (graph.output, output)]
    for values, (inner, name, shape) in ends:
        tensor = values.add(name=name).type.tensor_type
        tensor.elem_type = onnx.TensorProto.INT64 if inner in integers else onnx.TensorProto.FLOAT
        for size in shape:
            if size in dynamic:
                tensor.shape.dim.add(dim_param=dynamic[size])
            else:
                tensor.shape.dim.add(dim_value=size)
    body: list[Buffer] = [graph.SerializeToString()]
    size = len(body[0])
    for name, array in arrays.items():
        head = _initializer_head(name, array)
        # In C order. An array already in C order is copied only once, by the final join.
        body += [head, array.data if array.flags.c_contiguous else array.tobytes()]
        size += len(head) + array.nbytes
    return b"".join([model.SerializeToString(), _header("graph", onnx.ModelProto, size), *body])


def _initializer_head(name: str, array: NDArray[np.generic]) -> bytes:
    """A tensor as a field of the graph in protobuf's wire format, without its data, which comes last.

    Protobuf's own objects would copy the data three more times, which dominates the time for networks of megabytes.
    """
    tensor: bytes = onnx.TensorProto(name=name, data_type=_TYPES[array.dtype], dims=array.shape).SerializeToString()
    inner = tensor + _header("raw_data", onnx.TensorProto, array.nbytes)
    return _header("initializer", onnx.GraphProto, len(inner) + array.nbytes) + inner


def _header(field: str, message: Any, size: int) -> bytes:
    """The header of a field of `size` bytes: its number with wire type 2 (length-delimited), and the length, as varints."""
    out = bytearray()
    for number in (message.DESCRIPTOR.fields_by_name[field].number << 3 | 2, size):
        while number > 0x7F:
            out.append(number & 0x7F | 0x80)
            number >>= 7
        out.append(number)
    return bytes(out)


def _write_attribute(node: onnx.NodeProto, name: str, value: Attribute) -> None:
    kinds = onnx.AttributeProto
    if isinstance(value, int):
        node.attribute.add(name=name, type=kinds.INT, i=value)
    elif isinstance(value, float):
        node.attribute.add(name=name, type=kinds.FLOAT, f=value)
    elif isinstance(value, str):
        node.attribute.add(name=name, type=kinds.STRING, s=value.encode())
    else:
        node.attribute.add(name=name, type=kinds.INTS, ints=value)
