"""Quantization of the weights of linear layers and tables of embeddings, in blocks of 8 or 4 bits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from hardware_profiles.errors import PrecisionError

BITS: Mapping[str, int] = {"int8": 8, "int4": 4}
"""Bits of a weight, by precision."""
TABLE_BITS = 8
"""Bits of the weights of a table that rows are looked up in, and of matrices with as many rows, in every precision: a language
model's embeddings, and its head, with a row for each word. In 4 bits they would cost most of what int4 loses."""
BLOCK = 32
"""Weights of a row that share a scale."""
_DOMAIN = "com.microsoft"
_INTEGER_PRODUCTS = 4
"""The operators' `accuracy_level` with which a processor quantizes each row of activations to 8 bits, in the same blocks."""
_SCALE_BYTES = 4
_STANDARD = ("Add", "Reshape", "Slice")


def quantized_bytes(
    rows: NDArray[np.int64], columns: NDArray[np.int64], precision: str, *, words: int
) -> NDArray[np.int64]:
    """The bytes that matrices of these sizes take in a model, (n,), with their scales; in fp32 those of all numbers.

    Args:
        words: rows of the model's table; see `TABLE_BITS`.
    """
    if precision == "fp32":
        return rows * columns * 4
    bits = np.where(rows == words, TABLE_BITS, BITS[precision])
    return np.asarray(rows * -(-columns // BLOCK) * (BLOCK * bits // 8 + _SCALE_BYTES), np.int64)


def quantize_blocks(matrix: NDArray[np.float32], bits: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A matrix (rows, columns) as integers in blocks of `BLOCK` columns and the scale of each block, in the layout of
    MatMulNBits: (rows, blocks, BLOCK x bits / 8) and (rows, blocks).

    A block's number of the largest magnitude is represented exactly, by the least integer (as in GGML's Q4_0); integers are
    stored with half of their range added, two of 4 bits in a byte, the first one in the lower half.

    Raises:
        PrecisionError: a number is not finite.
    """
    if not np.isfinite(matrix).all():
        raise PrecisionError("a weight is not finite; use fp32", code="precision.overflow")
    rows, columns = matrix.shape
    blocks, half = -(-columns // BLOCK), 2 ** (bits - 1)
    padded = np.zeros((rows, blocks * BLOCK), np.float32)
    padded[:, :columns] = matrix
    parts = padded.reshape(rows, blocks, BLOCK)
    largest = np.take_along_axis(parts, np.abs(parts).argmax(2, keepdims=True), 2)
    scales = np.where(largest == 0, 1, largest / -half).astype(np.float32)
    integers = np.clip(np.rint(parts / scales) + half, 0, 2 * half - 1).astype(np.uint8)
    stored = integers if bits == 8 else integers[..., ::2] | (integers[..., 1::2] << 4)
    return stored, scales[..., 0]


def quantize_weights(model: bytes, precision: str) -> bytes:
    """The model with each constant matrix that it multiplies by, or looks rows up in, in ``int8`` or ``int4``.

    Products become MatMulNBits, look-ups GatherBlockQuantized, operators of ONNX Runtime (domain ``com.microsoft``). A matrix
    that both read, as that of a tied head, is stored once; see `TABLE_BITS`. Activations stay float32 in the graph; see
    `_INTEGER_PRODUCTS`. No calibration is needed, and the same weights become the same integers in any graph that looks rows
    up in the same table.

    Raises:
        PrecisionError: the model is invalid, has no such matrix, or a weight is not finite.
    """
    try:
        quantized = onnx.load_from_string(model)
    except DecodeError as error:
        raise PrecisionError(f"not a valid ONNX model: {error}", code="precision.model-invalid") from None
    graph = quantized.graph
    matrices = _matrices(graph)
    if not matrices:
        message = f"{precision} is of constant matrices in MatMul, Gemm and Gather, and the model has none; use fp32"
        raise PrecisionError(message, code="precision.unsupported-operation")
    words = {len(matrix.values) for matrix in matrices.values() if matrix.looked_up}
    bits = {name: TABLE_BITS if len(matrix.values) in words else BITS[precision] for name, matrix in matrices.items()}
    constants: dict[str, list[int]] = {}
    ranks = _ranks(graph)
    nodes = [new for node in graph.node for new in _replaced(node, matrices, ranks, bits, constants)]
    tensors = [tensor for tensor in graph.initializer if tensor.name not in matrices]
    for name, matrix in matrices.items():
        stored, scales = quantize_blocks(matrix.values, bits[name])
        tensors += [numpy_helper.from_array(stored, _blocks(name)), numpy_helper.from_array(scales, _scales(name))]
        if matrix.looked_up:  # the look-up takes the same scales in another shape
            constants[f"{name}.shape"] = [*scales.shape, 1]
            nodes.insert(0, _node("Reshape", [_scales(name), f"{name}.shape"], _scales(name, looked_up=True)))
    tensors += [numpy_helper.from_array(np.array(numbers, np.int64), name) for name, numbers in constants.items()]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    if all(opset.domain != _DOMAIN for opset in quantized.opset_import):
        quantized.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return bytes(quantized.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class _Matrix:
    """A constant matrix, by the name of its tensor.

    Attributes:
        names: Names of the tensor and of its transposed form.
        values: (outputs, inputs).
        looked_up: True if rows are looked up in it.
    """

    names: frozenset[str]
    values: NDArray[np.float32]
    looked_up: bool

    @property
    def columns(self) -> int:
        return int(self.values.shape[1])


def _blocks(name: str) -> str:
    return f"{name}.blocks"


def _scales(name: str, *, looked_up: bool = False) -> str:
    return f"{name}.scales.rows" if looked_up else f"{name}.scales"


def _matrices(graph: GraphProto) -> dict[str, _Matrix]:
    """The matrices that every reader multiplies by, or looks rows up in, and all in the same direction."""
    shown = {value.name for value in (*graph.input, *graph.output)}
    tensors = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2 and tensor.name not in shown
    }
    turned = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Transpose" and node.input[0] in tensors and _attribute(node, "perm", [1, 0]) == [1, 0]
    }
    ranked, uses = _ranks(graph), dict[str, set[str]]()
    for node in graph.node:
        if node.output and node.output[0] in turned:
            continue
        for i, name in enumerate(node.input):
            if name in tensors or name in turned:
                use = _use(node, i, ranked)
                if name in turned:
                    use = {"columns": "rows", "rows": "columns"}.get(use, "other")
                uses.setdefault(turned.get(name, name), set()).add(use)
    matrices = {}
    for name, kinds in uses.items():
        names = frozenset([name, *(output for output, source in turned.items() if source == name)])
        if "other" in kinds or len(kinds - {"table"}) > 1 or kinds == {"table", "columns"} or names & shown:
            continue
        values = numpy_helper.to_array(tensors[name])
        matrices[name] = _Matrix(names, values.T if kinds == {"columns"} else values, "table" in kinds)
    return matrices


def _ranks(graph: GraphProto) -> dict[str, int]:
    """The numbers of dimensions of the inputs, and of parts of them, as of the source and the target of a pair."""
    typed = ((value.name, value.type.tensor_type) for value in graph.input)
    ranks = {name: len(kind.shape.dim) for name, kind in typed if kind.HasField("shape")}
    for node in graph.node:
        if node.op_type == "Slice" and node.input[0] in ranks:
            ranks[node.output[0]] = ranks[node.input[0]]
    return ranks


def _use(node: NodeProto, i: int, ranked: Collection[str]) -> str:
    """The use of a node's i-th input, a constant matrix: it multiplies by its ``rows`` or its ``columns``, looks up rows
    (``table``), or ``other``."""
    match node.op_type, i:
        case "MatMul", 1:
            return "columns"
        case "Gemm", 1:
            plain = _attribute(node, "alpha", 1.0) == _attribute(node, "beta", 1.0) == 1 and not _attribute(
                node, "transA", 0
            )
            return ("rows" if _attribute(node, "transB", 0) else "columns") if plain else "other"
        case "Gather", 0 if _attribute(node, "axis", 0) == 0 and node.input[1] in ranked:
            return "table"
        case _:
            return "other"


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    attribute = next((entry for entry in node.attribute if entry.name == name), None)
    return default if attribute is None else helper.get_attribute_value(attribute)


def _node(op: str, inputs: Sequence[str], output: str, **attributes: int) -> NodeProto:
    node = helper.make_node(op, inputs, [output], name=output, domain="" if op in _STANDARD else _DOMAIN)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    return node


def _replaced(
    node: NodeProto,
    matrices: Mapping[str, _Matrix],
    ranks: Mapping[str, int],
    bits: Mapping[str, int],
    constants: dict[str, list[int]],
) -> list[NodeProto]:
    """The nodes in place of one: none for a transposition that nothing reads any more.

    Args:
        ranks: Numbers of dimensions by name, from `_ranks`.
        bits: Bits of a weight, by the name of the matrix.
        constants: Receives the numbers that the nodes read, by name.
    """
    use = next(((name, matrix) for name, matrix in matrices.items() if matrix.names.intersection(node.input)), None)
    if use is None:
        return [node]
    (name, matrix), output = use, node.output[0]
    settings = {"bits": bits[name], "block_size": BLOCK}
    match node.op_type:
        case "Transpose":
            return []
        case "Gather":
            inputs = [_blocks(name), node.input[1], _scales(name, looked_up=True)]
            replacement = _node(
                "GatherBlockQuantized", inputs, f"{output}.blocks", gather_axis=0, quantize_axis=2, **settings
            )
            return [
                replacement,
                *_joined(replacement.output[0], output, matrix.columns, ranks[node.input[1]], constants),
            ]
        case _:
            biased = node.op_type == "Gemm" and len(node.input) > 2
            product = f"{output}.product" if biased else output
            settings |= {"K": matrix.columns, "N": len(matrix.values), "accuracy_level": _INTEGER_PRODUCTS}
            replacement = _node("MatMulNBits", [node.input[0], _blocks(name), _scales(name)], product, **settings)
            return [replacement, _node("Add", [product, node.input[2]], output)] if biased else [replacement]


def _joined(blocks: str, output: str, columns: int, rank: int, constants: dict[str, list[int]]) -> list[NodeProto]:
    """The rows of blocks (..., blocks, `BLOCK`), without what fills the last block: (..., columns)."""
    shape, padded = f"{output}.shape", columns % BLOCK > 0
    constants[shape] = [0] * rank + [-1]  # 0: as the input
    joined = f"{output}.padded" if padded else output
    nodes = [_node("Reshape", [blocks, shape], joined)]
    if padded:
        ends = [f"{output}.{name}" for name in ("start", "end", "axis")]
        constants.update(zip(ends, ([0], [columns], [-1]), strict=True))
        nodes.append(_node("Slice", [joined, *ends], output))
    return nodes
