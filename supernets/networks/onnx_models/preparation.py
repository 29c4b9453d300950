"""Folds what follows from constants alone, joins products and sums to layers, and decides which constants are parameters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernets.errors import CaptureError
from supernets.networks.onnx_models.onnx_file import Graph
from supernets.networks.onnx_models.paths import identifier
from supernets.networks.onnx_models.recurrent import GATES, divided_weights
from supernets.networks.onnx_models.registry import (
    MAX_KNOWN,
    OPERATORS,
    Node,
    OperatorCall,
    compute_known,
)

BRANCHES = ("", "If")
"""The operator that runs one of two graphs; `OnnxModule` does."""
LAYERS = "subnet-nas"
"""The domain of nodes that stand for several of the file."""
_ROLES: Mapping[str, tuple[str, ...]] = {
    "Conv": ("", "weight", "bias"),
    "ConvTranspose": ("", "weight", "bias"),
    "Gemm": ("", "weight", "bias"),
    "Linear": ("", "weight", "bias"),
    "MatMul": ("weight", "weight"),
    "BatchNormalization": ("", "weight", "bias", "running_mean", "running_var"),
    "InstanceNormalization": ("", "weight", "bias"),
    "GroupNormalization": ("", "weight", "bias"),
    "LayerNormalization": ("", "weight", "bias"),
    "RMSNormalization": ("", "weight"),
    "SimplifiedLayerNormalization": ("", "weight"),
    "PRelu": ("", "weight"),
    "Gather": ("weight",),
    "Add": ("bias", "bias"),
    "Mul": ("scale", "scale"),
    "Concat": ("token",) * 8,
    "Expand": ("token",),
    "Einsum": ("weight", "weight"),
}
"""The names of parameters by the operator that reads them, one for each input; "" for inputs that are none."""
_NOT_NEGATIVE = frozenset(("Relu", "Clip", "Sigmoid", "HardSigmoid", "Softmax", "QuantizeLinear", "DequantizeLinear"))
"""Operators whose results need no lower bound where they are quantised."""
_STATISTICS = ("running_mean", "running_var")
_LARGEST = 1e4
"""Larger numbers are those of masks, not weights."""
_DESCRIPTIVE = re.compile(r"[A-Za-z_]\w*(\.\w+)+")
_NAMED_BY_EXPORTERS = re.compile(r"(.*::|val_|const)")


@dataclass
class PreparedGraph:
    """A graph to be run.

    Attributes:
        constants: Known values by name.
        parameters: Weights by name of the value, with the path that each has in the module.
        buffers: Statistics of batch norms, likewise.
    """

    graph: Graph
    constants: dict[str, NDArray[Any]]
    parameters: dict[str, tuple[str, NDArray[Any]]]
    buffers: dict[str, tuple[str, NDArray[Any]]]


def check_operators(graph: Graph) -> None:
    """Raises `CaptureError` for operators that have no function."""
    for node in graph.nodes:
        if (node.domain, node.op) not in OPERATORS and (node.domain, node.op) != BRANCHES:
            domain = f"of the domain {node.domain[:60]} " if node.domain else ""
            raise CaptureError(
                f"{node.title}: the operator {node.op[:60]} {domain}is not read; write the file without it, or name the "
                "network in its own library",
                code="capture.unknown-operation",
            )
        if not node.outputs:
            raise CaptureError(f"{node.title} has no output", code="capture.onnx-malformed")
        for branch in node.attributes.values():
            if isinstance(branch, Graph):
                check_operators(branch)


def prepare(graph: Graph, *, fixed_batch: int | None) -> PreparedGraph:
    """A graph without what follows from constants, with its layers joined.

    Raises:
        CaptureError: an operator is unknown, a constant is too large, or a node cannot be computed.
    """
    check_operators(graph)
    constants = dict(graph.constants)
    nodes = _folded(graph, constants, fixed_batch)
    result_names = (
        {name for node in nodes for name in node.outputs} | constants.keys() | {value.name for value in graph.inputs}
    )
    if missing := [name for name in graph.outputs if name not in result_names]:
        raise CaptureError(f"its output {missing[0][:100]} is made by no node", code="capture.onnx-malformed")
    nodes = _needed(nodes, graph.outputs)
    nodes = _with_layers(nodes, constants, graph.outputs)
    return _with_roles(replace(graph, nodes=nodes), constants)


def compute(call: OperatorCall, function: Callable[[OperatorCall], Any]) -> Any:
    """The result of a function of a node.

    Raises:
        CaptureError: it fails, for the node has other inputs or attributes than its operator allows.
    """
    try:
        return function(call)
    except CaptureError:
        raise
    except Exception as error:  # of numpy and torch, for what a stranger's file asks of them
        first = re.sub(r"\s+", " ", str(error)).strip()[:200]
        raise CaptureError(f"{call.node.title} cannot be computed: {first}", code="capture.failed") from error


def _folded(graph: Graph, constants: dict[str, NDArray[Any]], fixed_batch: int | None) -> list[Node]:
    """The nodes that depend on inputs; results of the others become constants."""
    nodes, n_elements = list[Node](), 0
    for node in graph.nodes:
        if node.op == "If" or not all(name in constants for name in node.inputs if name):
            nodes.append(node)
            continue
        values: list[Any] = [constants[name] if name else None for name in node.inputs]
        function = OPERATORS[node.domain, node.op]
        call = OperatorCall(node, values, fixed_batch=fixed_batch)
        results = compute(call, partial(compute_known, function))
        for name, result in zip(node.outputs, results, strict=False):
            constants[name] = np.asarray(result)
            n_elements += constants[name].size
        if n_elements > 64 * MAX_KNOWN:
            raise CaptureError(f"the constants up to {node.title} are too large", code="capture.too-large")
    return nodes


def _needed(nodes: list[Node], outputs: list[str]) -> list[Node]:
    """The nodes on which outputs depend."""
    names, needed = set(outputs), list[Node]()
    for node in reversed(nodes):
        if not names.isdisjoint(node.outputs):
            needed.append(node)
            names.update(node.inputs)
            for branch in node.attributes.values():
                if isinstance(branch, Graph):
                    names.update(_read_outside(branch))
    return needed[::-1]


def _read_outside(graph: Graph) -> set[str]:
    """The names that a branch may read of the graph around it."""
    names = set(graph.outputs)
    for node in graph.nodes:
        names.update(node.inputs)
        for branch in node.attributes.values():
            if isinstance(branch, Graph):
                names |= _read_outside(branch)
    return names


def _with_layers(nodes: list[Node], constants: dict[str, NDArray[Any]], outputs: list[str]) -> list[Node]:
    """The nodes with products with weights as linear layers, sums with biases in them, and recurrent weights by gate."""
    reads = Counter(name for node in nodes for name in node.inputs)
    reads.update(outputs)
    reads.update(
        name for node in nodes for a in node.attributes.values() if isinstance(a, Graph) for name in _read_outside(a)
    )
    layers, producer = list[Node](), dict[str, Node]()
    for node in nodes:
        layer = _as_layer(node, constants)
        source = producer.get(node.inputs[0]) if node.inputs else None
        if node.op == "QuantizeLinear" and source is not None and source.op in _NOT_NEGATIVE:
            layer = replace(node, op="Identity", inputs=node.inputs[:1])
        if node.op == "Add" and (target := _biased(node, constants, producer, reads)) is not None:
            weighted, bias = target
            weighted.inputs = [*weighted.inputs[:2], bias]
            weighted.outputs = list(node.outputs)
            producer[node.outputs[0]] = weighted
            continue
        layers.append(layer)
        producer.update((name, layer) for name in layer.outputs)
    return layers


def _as_layer(node: Node, constants: dict[str, NDArray[Any]]) -> Node:
    if node.op in GATES and not node.domain:
        return divided_weights(node, constants)
    if node.op not in ("MatMul", "Gemm") or node.domain or len(node.inputs) < 2:
        return node
    weight = constants.get(node.inputs[1])
    if weight is None or weight.ndim != 2 or weight.dtype.kind != "f" or node.inputs[0] in constants:
        return node
    attributes = node.attributes
    if node.op == "MatMul":
        name = _transposed(node.inputs[1], constants)
        return replace(node, op="Linear", domain=LAYERS, inputs=[node.inputs[0], name], outputs=list(node.outputs))
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    bias_name = node.inputs[2] if len(node.inputs) > 2 else ""
    bias = constants.get(bias_name)
    n_outputs = weight.shape[0 if attributes.get("transB") else 1]
    is_bias = bias is not None and bias.size in (1, n_outputs) and bias.ndim <= 2 and bias.shape[-1:] != ()
    is_bias = is_bias and (bias.ndim == 1 or bias.shape[0] == 1)  # type: ignore[union-attr]
    if attributes.get("transA") or alpha != 1 or (bias_name and not is_bias):
        return node
    name = node.inputs[1] if attributes.get("transB") else _transposed(node.inputs[1], constants)
    inputs = [node.inputs[0], name]
    if bias is not None:
        if bias.shape != (n_outputs,) or beta != 1:
            bias_name = _unused_name(f"{bias_name}/bias", constants)
            constants[bias_name] = np.broadcast_to(bias.reshape(-1) * np.float32(beta), (n_outputs,)).copy()
        inputs.append(bias_name)
    return replace(node, op="Linear", domain=LAYERS, inputs=inputs, outputs=list(node.outputs), attributes={})


def _transposed(name: str, constants: dict[str, NDArray[Any]]) -> str:
    transposed_name = f"{name}/transposed"
    if transposed_name not in constants:
        constants[transposed_name] = np.ascontiguousarray(constants[name].T)
    return transposed_name


def _unused_name(name: str, constants: Mapping[str, NDArray[Any]]) -> str:
    while name in constants:
        name = f"{name}/bias"
    return name


def _biased(
    node: Node, constants: dict[str, NDArray[Any]], producer: Mapping[str, Node], reads: Mapping[str, int]
) -> tuple[Node, str] | None:
    """The layer whose output a sum adds a constant for each unit to, and the constant's name."""
    for value_name, constant_name in (node.inputs[:2], node.inputs[1::-1]):
        layer, bias = producer.get(value_name), constants.get(constant_name)
        if layer is None or bias is None or reads[value_name] != 1 or len(layer.inputs) != 2:
            continue
        weight = constants.get(layer.inputs[1])
        if weight is None or weight.ndim < 2 or bias.dtype != weight.dtype:
            continue
        n_units = weight.shape[0]
        if layer.op == "Linear" and layer.domain == LAYERS and bias.shape == (n_units,):
            return layer, constant_name
        channels = (n_units, *(1,) * (weight.ndim - 2))
        if layer.op == "Conv" and bias.ndim > 1 and bias.shape in (channels, (1, *channels)):
            name = _unused_name(f"{constant_name}/bias", constants)
            constants[name] = bias.reshape(n_units)
            return layer, name
    return None


def _with_roles(graph: Graph, constants: dict[str, NDArray[Any]]) -> PreparedGraph:
    """The graph with parameters and statistics apart from other constants, each with its path."""
    prepared, used_paths = PreparedGraph(graph, {}, {}, {}), set[str]()
    read_names = {name for node in graph.nodes for name in node.inputs} | set(graph.outputs)
    for node in graph.nodes:
        read_names |= {name for a in node.attributes.values() if isinstance(a, Graph) for name in _read_outside(a)}
        roles = GATES[node.op] if node.op in GATES else _ROLES.get(node.op, ())
        for name, role in zip(node.inputs, roles, strict=False):
            array = constants.get(name)
            if not role or array is None or name in prepared.parameters or name in prepared.buffers:
                continue
            if role in _STATISTICS:
                prepared.buffers[name] = (_path(name, node, role, used_paths), array)
            elif _is_weight(node, array):
                prepared.parameters[name] = (_path(name, node, role, used_paths), array)
    prepared.constants.update(
        (name, constants[name])
        for name in read_names
        if name in constants and name not in prepared.parameters and name not in prepared.buffers
    )
    return prepared


def _is_weight(node: Node, array: NDArray[Any]) -> bool:
    if array.dtype.kind != "f" or not array.ndim or not array.size:
        return False
    if node.op in ("Add", "Mul", "Concat", "Expand") and array.size == 1:
        return False
    return bool(np.isfinite(array).all()) and bool(np.abs(array).max() < _LARGEST)


def _path(name: str, node: Node, role: str, used_paths: set[str]) -> str:
    """The path of a parameter: its name in the file where that is one of a module, else the module's and its role."""
    name = name.removesuffix("/transposed").removesuffix("/bias")
    path = f"{node.path}.{role}"
    if _DESCRIPTIVE.fullmatch(name) and not _NAMED_BY_EXPORTERS.match(name) and len(name) < 200:
        path = ".".join(identifier(part) for part in name.split("."))
    n, candidate = 2, path
    while candidate in used_paths:
        candidate, n = f"{path}_{n}", n + 1
    used_paths.add(candidate)
    return candidate
