"""Paths of modules from the names of nodes, as torch's exporters, tf2onnx and others write them."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from supernets.networks.onnx_models.registry import Node

_SCOPES = "pkg.torch.onnx.name_scopes"
"""Metadata of torch's exporter: a list of the paths of all modules around a node."""
_BLOCK = re.compile(r"((?:block|stage|layer|conv)_?\d+[a-z]?)_(?=[a-z0-9]+_?)", re.IGNORECASE)
"""A number of a block within the flat names of Keras' applications, as in ``conv2_block1_1_conv``."""
_MAX_LENGTH = 200
RESERVED = frozenset(
    (
        *dir(nn.Module()),
        *("nodes", "values", "parameter_of", "file_inputs", "file_outputs"),
        *("_graph", "_constants", "_main", "_mask", "_zeros", "_fixed_batch", "_is_channels_last", "_paths"),
        *("_scope", "_run", "_branch", "_value"),
    )
)
"""The attributes of `OnnxModule`."""


def set_paths(nodes: Sequence[Node], protos: Mapping[str, Any]) -> None:
    """Gives each node the path of the module that it was part of; nodes without such a name are counted by blocks.

    Blocks end with sums of two values, as residual ones do.
    """
    raw = [_scope(protos.get(node.name)) or _from_name(node) for node in nodes]
    first = Counter(path.partition(".")[0] for path in raw if "." in path)
    while len(first) == 1 and all(path.partition(".")[2] for path in raw if path):  # a part that all names begin with
        raw = [path.partition(".")[2] for path in raw]
        first = Counter(path.partition(".")[0] for path in raw if "." in path)
    block = 0
    for index, (node, path) in enumerate(zip(nodes, raw, strict=True)):
        node.path = path or f"blocks.{block}.{node.op.lower()}_{index}"
        block += node.op == "Add"
    for node in nodes:
        node.path = ".".join(identifier(part) for part in node.path.split(".") if part)[:_MAX_LENGTH]
        node.path = node.path.rstrip(".") or "layers"


def identifier(part: str) -> str:
    """A part of a path as the name of an attribute of a module."""
    name = re.sub(r"\W", "_", part, flags=re.ASCII) or "_"
    return f"{name}_" if name in RESERVED else name


def _scope(proto: Any) -> str:
    """The innermost module of a node that torch's newer exporter wrote."""
    for entry in getattr(proto, "metadata_props", ()):
        if entry.key == _SCOPES and len(entry.value) < 10_000:
            try:
                scopes = ast.literal_eval(entry.value)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                return ""
            return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) > 1 else ""
    return ""


def _from_name(node: Node) -> str:
    """The path in a name with slashes: ``/layer1/layer1.0/conv1/Conv`` of torch, ``model/conv1/Conv2D`` of tf2onnx."""
    parts = [part for part in node.name.split(":")[0].split("/") if part]
    if len(parts) < 2 or len(parts) > 50:
        return ""
    path: list[str] = []
    for part in parts[:-1]:
        if path and part.startswith(f"{path[-1]}."):  # a position in a container
            path[-1] = part
        else:
            path.append(part)
    if node.name.startswith("/"):
        return ".".join(path)
    return ".".join(_BLOCK.sub(r"\1.", part.replace(".", "_")) for part in path)
