"""Rewrites traced graphs before they are read: wrapped blocks are inlined, and in-place calls computed out of place."""

from __future__ import annotations

import operator
import re
from typing import Any, cast

import torch
from torch import fx
from torch._decomp import get_decompositions
from torch.export import ExportedProgram

from supernets.errors import CaptureError
from supernets.networks.capture.module_call import quiet
from supernets.networks.operations import may_return_view

_PLACE = re.compile(r'File "((?:(?!/torch/nn/)[^"])+)", line (\d+)')


def inlined(module: fx.GraphModule) -> fx.Graph:
    """The module's graph with the calls of wrapped subgraphs in place of their operators; placeholders keep their names.

    Raises:
        CaptureError: autocast is on, so that products are in half precision.
    """
    wrapped = [node for node in module.graph.nodes if str(node.target) == "wrap_with_autocast"]
    if not wrapped:
        return module.graph
    graph, copies, results = fx.Graph(), dict[fx.Node, Any](), dict[fx.Node, Any]()
    for node in module.graph.nodes:
        if node in wrapped:
            inner = next(
                i for i, argument in enumerate(node.args) if isinstance(argument, fx.Node) and argument.op == "get_attr"
            )
            body = cast(fx.GraphModule, module.get_submodule(str(node.args[inner].target)))
            if node.args[0] == "cpu" and node.args[2]:
                raise CaptureError(
                    f"a part of its forward is in {node.args[1]}, by torch.autocast{_first_place(body)}; captured networks are "
                    "in float32: remove it there, or pass enabled=False",
                    code="capture.model-unusable",
                )
            arguments = [
                copies[argument] if isinstance(argument, fx.Node) else argument for argument in node.args[inner + 1 :]
            ]
            placeholders = [inner_node for inner_node in body.graph.nodes if inner_node.op == "placeholder"]
            results[node] = graph.graph_copy(body.graph, dict(zip(placeholders, arguments, strict=True)))
        elif node.target is operator.getitem and node.args[0] in results:
            copies[node] = results[node.args[0]][node.args[1]]
        elif node.op == "output":
            graph.output(fx.node.map_arg(node.args[0], lambda source: copies[source]))
        elif node.op != "get_attr":
            copies[node] = graph.node_copy(node, lambda source: copies[source])
    return graph


def _first_place(body: fx.GraphModule) -> str:
    """File and line of the first call that has them, ``" (at FILE:LINE)"``."""
    places = (_PLACE.findall(node.meta.get("stack_trace") or "") for node in body.graph.nodes)
    return next((" (at {}:{})".format(*matches[-1]) for matches in places if matches), "")


def remove_whole_slices(graph: fx.Graph) -> None:
    """Replaces each slice from the first row to the last by the tensor; torch records them or not, by its version."""
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.slice.Tensor:
            source, *options = node.args
            start, end, step = (options + [0, None, None, 1][len(options) :])[1:]
            is_whole = start in (None, 0) and (end is None or end >= _END) and step == 1
            if is_whole and not any(user.op == "output" for user in node.users):
                node.replace_all_uses_with(source)
                graph.erase_node(node)


_END = torch.iinfo(torch.int64).max
"""The end of a slice that has none."""


class MutatedViewError(CaptureError):
    """A call changes a tensor whose memory others read."""


def without_mutations(exported: ExportedProgram) -> ExportedProgram:
    """The traced program without in-place calls; other operations stay as they are.

    Raises:
        CaptureError: torch cannot trace it again.
    """
    try:
        with quiet():
            return cast(ExportedProgram, exported.run_decompositions({}))
    except Exception as error:  # torch before 2.13 raises what operations after an LSTM raise for its wrong states
        raise CaptureError(
            f"its forward changes a part of a tensor in place, and torch {torch.__version__} cannot replace that by calls out "
            f"of place ({type(error).__name__}): make a new tensor there, or use torch 2.13 or later",
            code="capture.in-place",
        ) from error


_GRID = torch.ops.aten.affine_grid_generator.default


def with_grids_composed(exported: ExportedProgram) -> ExportedProgram:
    """The traced program with grids of affine transforms as products: the operation has the size of the batch as a number."""
    if all(node.target is not _GRID for node in exported.graph.nodes):
        return exported
    try:
        with quiet():
            return cast(ExportedProgram, exported.run_decompositions(get_decompositions([_GRID])))
    except Exception as error:  # of any operation of the user's
        text = f"its forward has a grid of an affine transform that cannot be captured ({type(error).__name__})"
        raise CaptureError(f"{text}: compute the grid from coordinates", code="capture.failed") from error


def operation_out_of_place(target: Any, at: str) -> Any:
    """The operation, or what computes the same out of place.

    Args:
        at: Place of the call, for the message.

    Raises:
        CaptureError: there is none.
    """
    if not target._schema.is_mutable:
        return target
    namespace, name = target.namespace, target._schema.name.split("::")[-1]
    packet = getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None) if name.endswith("_") else None
    overload = getattr(packet, target._overloadname, None) if packet is not None else None
    if overload is None:
        raise CaptureError(f"{name} changes a tensor in place{at}", code="capture.in-place")
    return overload


def changes_others(call: fx.Node) -> bool:
    """Returns whether an in-place call changes other values that are read later: views of its argument, or its base."""
    changed = cast(fx.Node, call.args[0])
    if any(_view_source(user) and user < call for user in changed.users):
        return True
    while source := _view_source(changed):
        if any(user is not changed and (call < user or _view_source(user)) for user in source.users):
            return True
        changed = source
    return False


def _view_source(node: fx.Node) -> fx.Node | None:
    """The value of which a value may be a view."""
    if node.target is operator.getitem:
        source = cast(fx.Node, node.args[0])
        return source if _view_source(source) else None
    return cast(fx.Node, node.args[0]) if may_return_view(node.target) else None
