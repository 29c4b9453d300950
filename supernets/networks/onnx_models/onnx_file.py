"""Reads an ONNX file within limits: of sizes, of nodes and their nesting, and of the files that it refers to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import external_data_helper, helper, inliner, numpy_helper

from supernets.errors import CaptureError
from supernets.files import check_regular
from supernets.networks.capture.memory import available_bytes
from supernets.networks.onnx_models.paths import set_paths
from supernets.networks.onnx_models.registry import Node

MAX_BYTES, MAX_EXTERNAL = 2**31 - 1, 2**35
"""The limit of a protobuf message, and the most bytes of weights in files beside it."""
MAX_REPEATS, MIN_REPEATED = 4, 2**26
"""How often tensors may have the same data of files beside it, where they have more bytes than the second number."""
_COPIES = 2
"""Copies of the weights that are made while a file is read."""
MAX_NODES, MAX_DEPTH = 50_000, 8
"""Nodes with those of functions and branches, and how deep branches and functions are nested."""
OPSETS = (7, 26)
"""The first and the last version of ONNX's operators that are read."""
_DOMAINS = {"ai.onnx": ""}
_FLOATS = ("float32", "float64", "float16", "bfloat16")


@dataclass(frozen=True)
class Input:
    """An input of a file.

    Attributes:
        dtype: its type, as numpy names it.
        shape: Sizes; None for those that are dynamic.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass
class Graph:
    """The nodes of a graph in an order in which they can run, and the constants that they read.

    Attributes:
        constants: Arrays by name, of initialisers.
        outputs: Names of the results.
    """

    inputs: list[Input]
    nodes: list[Node]
    constants: dict[str, NDArray[Any]]
    outputs: list[str]


@dataclass(frozen=True)
class OnnxFile:
    """A file's graph.

    Attributes:
        producer: Name of the program that wrote it.
        model: The whole model with its weights, without functions.
        half: True if some of its weights are of half precision.
    """

    path: Path
    producer: str
    graph: Graph
    model: onnx.ModelProto = field(repr=False)
    half: bool = False


def read_onnx(path: Path) -> OnnxFile:
    """The network of an ONNX file; a stranger may have written it, and nothing in it is trusted.

    Raises:
        CaptureError: it is missing, too large, no ONNX model, or refers to files outside of its folder.
    """
    model = _parsed(path)
    versions = {_DOMAINS.get(entry.domain, entry.domain): entry.version for entry in model.opset_import}
    version = versions.get("", 0)
    first, last = OPSETS
    if not first <= version <= last and any(node.domain in ("", "ai.onnx") for node in model.graph.node):
        raise _malformed(path, f"it has the opset {version}; expected one of {first} to {last}")
    if model.functions:
        _check_functions(model, path)
        try:
            model = inliner.inline_local_functions(model)
        except Exception as error:  # of a library in C++
            raise _malformed(path, f"its functions cannot be inlined: {_first_line(error)}") from None
    _remove_unused(model.graph)
    _load_external(model, path)  # after functions, whose constants may be elsewhere too
    try:
        graph = _graph(model.graph, versions, depth=0, limit=[MAX_NODES])
    except CaptureError as error:
        raise CaptureError(f"{path}: {error}", code=error.code) from None
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError, MemoryError) as error:
        raise _malformed(path, _first_line(error)) from None
    half = any(tensor.data_type in (10, 16) for tensor in model.graph.initializer)
    set_paths(graph.nodes, {node.name: node for node in model.graph.node if node.name})
    return OnnxFile(path, model.producer_name[:100], graph, model, half)


def _parsed(path: Path) -> onnx.ModelProto:
    try:
        check_regular(path)
        if path.stat().st_size > MAX_BYTES:
            raise _malformed(path, f"it has more than {MAX_BYTES} bytes; store weights beside it (external data)")
        model: onnx.ModelProto = onnx.ModelProto.FromString(path.read_bytes())
    except FileNotFoundError:
        raise CaptureError(f"{path}: there is no such file", code="capture.unknown-model") from None
    except OSError as error:
        raise _malformed(path, error.strerror or str(error)) from None
    except (DecodeError, RecursionError):
        raise _malformed(path, "it is no ONNX model, or damaged") from None
    if not model.HasField("graph") or not model.graph.node:
        raise _malformed(path, "it has no graph with nodes")
    return model


def _load_external(model: onnx.ModelProto, path: Path) -> None:
    """Reads weights from files beside the model: regular files in its folder, within limits."""
    folder, n_bytes, size_of, available = path.parent.resolve(), 0, dict[Path, int](), available_bytes()
    for tensor in _tensors(model.graph, MAX_DEPTH, path):
        if not external_data_helper.uses_external_data(tensor):
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = str(entries.get("location", ""))
        file = _file_inside(folder, location, tensor.name, path)
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
        except ValueError:
            raise _malformed(path, f"the place of the tensor {tensor.name[:100]} is no number") from None
        size = file.stat().st_size
        length = size - offset if length < 0 else length
        n_bytes, size_of[file] = n_bytes + max(length, 0), size
        if not 0 <= offset <= offset + length <= size or n_bytes > MAX_EXTERNAL:
            raise _malformed(path, f"the tensor {tensor.name[:100]} lies beyond the end of {location[:200]!r}")
        if n_bytes > MIN_REPEATED and n_bytes > MAX_REPEATS * sum(size_of.values()):
            raise _malformed(path, f"its tensors repeat the data of {location[:200]!r} more than {MAX_REPEATS} times")
        if available is not None and _COPIES * n_bytes > available:
            text = f"{path}: its weights have more than {n_bytes} bytes, and {available} are available for them"
            raise CaptureError(text, code="capture.too-large")
        try:
            with file.open("rb") as content:
                content.seek(offset)
                tensor.raw_data = content.read(length)
        except OSError as error:
            raise _malformed(path, f"the file {location[:200]!r} of its weights: {error.strerror}") from None
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _file_inside(folder: Path, location: str, name: str, path: Path) -> Path:
    """The file of a tensor's data; raises `CaptureError` unless it is in the model's folder."""
    file = Path(os.path.normpath(folder / location))
    try:
        is_inside = location and not Path(location).is_absolute() and file.is_relative_to(folder)
        if not is_inside or file.is_symlink() or not file.resolve().is_relative_to(folder):
            raise _malformed(path, f"the tensor {name[:100]} refers to {location[:200]!r}, outside of its folder")
        is_file = file.is_file()
    except (OSError, ValueError):  # too long, or no name of a file
        is_file = False
    if not is_file:
        raise _malformed(path, f"the file {location[:200]!r} of its weights is missing; keep it beside the model")
    return file


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Removes nodes that no output depends on, which ONNX Runtime would run; all stay where outputs depend on no input."""
    names, needed = {value.name for value in graph.output}, list[onnx.NodeProto]()
    for node in reversed(graph.node):
        if not names.isdisjoint(name for name in node.output if name):
            needed.append(node)
            names.update(_read_names(node, MAX_DEPTH))
    depends = not names.isdisjoint(value.name for value in graph.input)
    if depends and len(needed) < len(graph.node):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(needed)]
        del graph.node[:]
        graph.node.extend(copies)


def _read_names(node: onnx.NodeProto, depth: int) -> Iterator[str]:
    """The names that a node and its branches read; branches that are nested deeper are rejected later."""
    yield from node.input
    for attribute in node.attribute:
        for branch in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from (value.name for value in branch.output)
            for inner in branch.node if depth else ():
                yield from _read_names(inner, depth - 1)


def _tensors(graph: onnx.GraphProto, depth: int, path: Path) -> Iterator[onnx.TensorProto]:
    """All tensors of a graph, of its attributes and branches."""
    if depth < 0:
        raise _malformed(path, f"branches are nested deeper than {MAX_DEPTH}")
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for branch in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _tensors(branch, depth - 1, path)


def _check_functions(model: onnx.ModelProto, path: Path) -> None:
    """Raises `CaptureError` for functions that call themselves, or would become too many nodes."""
    functions = {(function.domain, function.name): function for function in model.functions}
    n_nodes: dict[tuple[str, str], int] = {}

    def expanded(key: tuple[str, str], calling: tuple[tuple[str, str], ...]) -> int:
        if key in calling or len(calling) > 4 * MAX_DEPTH:
            raise _malformed(path, f"the function {key[1][:100]} calls itself, or functions are nested too deep")
        if key not in n_nodes:
            n_nodes[key] = total(functions[key].node, (*calling, key))
        return n_nodes[key]

    def total(nodes: Iterable[onnx.NodeProto], calling: tuple[tuple[str, str], ...]) -> int:
        n = 0
        for node in _all_nodes(nodes, MAX_DEPTH, path):
            key = (node.domain, node.op_type)
            n += expanded(key, calling) if key in functions else 1
            if n > MAX_NODES:
                raise _malformed(path, f"its functions become more than {MAX_NODES} nodes")
        return n

    total(model.graph.node, ())


def _all_nodes(nodes: Iterable[onnx.NodeProto], depth: int, path: Path) -> Iterator[onnx.NodeProto]:
    """Nodes with those of their branches."""
    if depth < 0:
        raise _malformed(path, f"branches are nested deeper than {MAX_DEPTH}")
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for branch in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _all_nodes(branch.node, depth - 1, path)


def _graph(proto: onnx.GraphProto, versions: Mapping[str, int], *, depth: int, limit: list[int]) -> Graph:
    """A graph and the graphs of its branches.

    Args:
        limit: the number of nodes that may still come.
    """
    if depth > MAX_DEPTH:
        raise CaptureError(f"branches are nested deeper than {MAX_DEPTH}", code="capture.onnx-malformed")
    texts = [text for node in proto.node for text in (node.name, node.op_type, node.domain, *node.input, *node.output)]
    texts += [named.name for named in (*proto.initializer, *proto.input, *proto.output)]
    if not all(isinstance(text, str) for text in texts):  # protobuf gives bytes that are no UTF-8 as they are
        raise CaptureError("it has names that are no text", code="capture.onnx-malformed")
    constants = {tensor.name: _array(tensor) for tensor in proto.initializer}
    if proto.sparse_initializer:
        raise CaptureError("it has sparse weights; store them as dense ones", code="capture.unknown-operation")
    nodes: list[Node] = []
    limit[0] -= len(proto.node)
    if limit[0] < 0:
        raise CaptureError(f"it has more than {MAX_NODES} nodes", code="capture.too-large")
    for node in proto.node:
        domain = _DOMAINS.get(node.domain, node.domain)
        attributes = {
            attribute.name: _attribute(attribute, versions, depth=depth, limit=limit) for attribute in node.attribute
        }
        version = versions.get(domain, 0)
        nodes.append(Node(node.op_type, node.name, domain, version, list(node.input), list(node.output), attributes))
    inputs = [_input(value) for value in proto.input if value.name not in constants]
    return Graph(inputs, nodes, constants, [value.name for value in proto.output])


def _array(tensor: onnx.TensorProto) -> NDArray[Any]:
    """The values of a tensor; numbers of other precisions than float32 and float64 become these."""
    n_elements = 1
    for size in tensor.dims:
        n_elements *= size
    n_bytes = len(tensor.raw_data) + 8 * sum(
        len(getattr(tensor, name)) for name in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
    )
    if any(size < 0 for size in tensor.dims) or n_elements > 8 * max(n_bytes, 1):
        shape = " x ".join(map(str, tensor.dims))
        raise CaptureError(f"the tensor {tensor.name[:100]} of {shape} has other data", code="capture.onnx-malformed")
    if tensor.data_type == onnx.TensorProto.STRING:
        raise CaptureError(f"the tensor {tensor.name[:100]} has strings", code="capture.unknown-operation")
    try:
        array = numpy_helper.to_array(tensor)
    except Exception as error:  # of the library, for damaged data
        text = f"the tensor {tensor.name[:100]} cannot be read: {_first_line(error)}"
        raise CaptureError(text, code="capture.onnx-malformed") from None
    kind = array.dtype
    if kind.name in _FLOATS or kind.kind not in "biuf":
        array = array.astype(np.float64 if kind.name == "float64" else np.float32)
    elif kind.kind == "u" and kind.itemsize > 1:
        array = array.astype(np.int64)
    return np.array(array, order="C")  # its own memory, aligned


def _attribute(attribute: onnx.AttributeProto, versions: Mapping[str, int], *, depth: int, limit: list[int]) -> Any:
    match attribute.type:
        case onnx.AttributeProto.TENSOR:
            return _array(attribute.t)
        case onnx.AttributeProto.GRAPH:
            return _graph(attribute.g, versions, depth=depth + 1, limit=limit)
        case onnx.AttributeProto.STRING:
            return attribute.s.decode(errors="replace")
        case onnx.AttributeProto.STRINGS:
            return tuple(text.decode(errors="replace") for text in attribute.strings)
        case onnx.AttributeProto.INT | onnx.AttributeProto.FLOAT:
            return helper.get_attribute_value(attribute)
        case onnx.AttributeProto.INTS | onnx.AttributeProto.FLOATS:
            return tuple(helper.get_attribute_value(attribute))
    raise CaptureError(
        f"the attribute {attribute.name[:100]} is of the kind {attribute.type}; expected numbers, texts, tensors or branches",
        code="capture.unknown-operation",
    )


def _input(value: onnx.ValueInfoProto) -> Input:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise CaptureError(f"the input {value.name[:100]} is no tensor", code="capture.unknown-operation")
    sizes = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return Input(value.name, dtype, tuple(sizes) if tensor.HasField("shape") else None)


def _first_line(error: BaseException) -> str:
    lines = re.sub(r"\s+", " ", str(error)).strip()
    return f"{type(error).__name__}: {lines[:200]}"


def _malformed(path: Path, fault: str) -> CaptureError:
    return CaptureError(f"{path}: cannot be read as an ONNX model: {fault}", code="capture.onnx-malformed")
