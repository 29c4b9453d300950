"""Serialisation of a piece of a graph to an ONNX model."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from supernets.networks.onnx_graph.block_division import Piece
from supernets.networks.onnx_graph.ir import BATCH, BATCH_SIZE, CONTEXT, LENGTH_NAME, MEMORIES, OUTPUT, PAST, ROOM

OPSET = 18
"""The default of torch's exporter."""
IR_VERSION = 10
"""Supported by runtimes since 2024 (onnx 1.16)."""
MICROSOFT = "com.microsoft"
DOMAINS = {"GroupQueryAttention": MICROSOFT}
"""The domains of operations that are not ONNX's own."""
_ATTRIBUTES = {  # onnx.helper.make_attribute doubles the time of `lower`
    int: (onnx.AttributeProto.INT, "i"),
    float: (onnx.AttributeProto.FLOAT, "f"),
    str: (onnx.AttributeProto.STRING, "s"),
    tuple: (onnx.AttributeProto.INTS, "ints"),
    list: (onnx.AttributeProto.STRINGS, "strings"),
}
_TYPES = {
    np.dtype(np.float32): onnx.TensorProto.FLOAT,
    np.dtype(np.int64): onnx.TensorProto.INT64,
    np.dtype(np.bool_): onnx.TensorProto.BOOL,
}


def serialise(piece: Piece, names: Sequence[str], outputs: Sequence[str] = (OUTPUT,)) -> bytes:
    """The bytes of a piece as a model.

    Args:
        names: Names of the inputs in the model.
        outputs: the names of its outputs.
    """
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="subnet-nas")
    model.opset_import.add(domain="", version=OPSET)
    if any(node.op in DOMAINS for node in piece.nodes):
        model.opset_import.add(domain=MICROSOFT, version=1)
    graph = onnx.GraphProto(name="network")
    named_values = zip((*piece.inputs, *piece.outputs), (*names, *outputs), strict=True)
    renamed = {value.name: name for value, name in named_values}
    for node in piece.nodes:
        proto = graph.node.add(op_type=node.op, name=node.outputs[0], domain=DOMAINS.get(node.op, ""))
        proto.input.extend([renamed.get(name, name) for name in node.inputs])
        proto.output.extend([renamed.get(name, name) for name in node.outputs])
        for key, attribute in node.attributes.items():
            kind, field = _ATTRIBUTES[type(attribute)]
            value: object = attribute
            if isinstance(attribute, str):
                value = attribute.encode()
            elif isinstance(attribute, list):
                value = [text.encode() for text in attribute]
            proto.attribute.add(name=key, type=kind, **{field: value})
    dynamic = {BATCH_SIZE: BATCH, PAST: "past", CONTEXT: "context", ROOM: "room"}
    dynamic |= {size: f"{LENGTH_NAME}{n if n > 1 else ''}" for n, size in enumerate(MEMORIES, 1)}
    for declared, boundary_value in [
        *((graph.input, boundary_value) for boundary_value in piece.inputs),
        *((graph.output, boundary_value) for boundary_value in piece.outputs),
    ]:
        elements = onnx.TensorProto.INT64 if boundary_value.name in piece.integers else onnx.TensorProto.FLOAT
        elements = onnx.TensorProto.UINT8 if boundary_value.name in piece.bytes else elements
        shape = [dynamic.get(size, size) for size in boundary_value.shape]
        declared.append(onnx.helper.make_tensor_value_info(renamed[boundary_value.name], elements, shape))
    head: bytes = graph.SerializeToString()
    heads = [_initializer_head(name, array) for name, array in piece.arrays.items()]
    size = len(head) + sum(map(len, heads)) + sum(array.nbytes for array in piece.arrays.values())
    serialised = io.BytesIO()
    serialised.writelines((model.SerializeToString(), _header("graph", onnx.ModelProto, size), head))
    for head, array in zip(heads, piece.arrays.values(), strict=True):
        # In C order, of which an array that has another one is a copy: each for itself, as all of them may be gigabytes.
        serialised.writelines((head, array.data if array.flags.c_contiguous else array.tobytes()))
    return serialised.getvalue()


def _initializer_head(name: str, array: NDArray[np.generic]) -> bytes:
    """A tensor as a field of the graph in protobuf's wire format, without its data, which comes last.

    Protobuf's own objects would copy the data three more times, which dominates the time for networks of megabytes: 1.2 times
    the CPU time of `serialise` for 0.3 MB, 4.3 times for 15 MB. `onnx.helper` takes 1.9 to 4.6 times, `onnx_ir` 4.4 to 6.5.
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
