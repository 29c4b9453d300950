"""Rewrites recorded graphs before they are read: in-place calls are computed out of place."""

from __future__ import annotations

import operator
import re
from typing import Any, cast

import torch
from torch import fx
from torch._decomp import get_decompositions
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from supernets.errors import CaptureError
from supernets.networks.capture.module_call import quiet
from supernets.networks.capture.recorder import Trace
from supernets.networks.operations import may_return_view

_PLACE = re.compile(r'File "([^"]+)", line (\d+)')


def _inlined(module: fx.GraphModule) -> fx.Graph:
    """The module's graph with the calls of wrapped subgraphs in place of their operators; placeholders keep their names."""
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


def trace_without_mutations(exported: ExportedProgram) -> Trace:
    """A traced forward without in-place calls; other operations stay as they are.

    Raises:
        CaptureError: torch cannot trace it again.
    """
    try:
        with quiet():
            exported = exported.run_decompositions(get_decompositions([torch.ops.aten.affine_grid_generator.default]))
    except Exception as error:  # torch before 2.13 raises what operations after an LSTM raise for its wrong states
        raise CaptureError(
            f"its forward changes a part of a tensor in place, and torch {torch.__version__} cannot replace that by calls out "
            f"of place ({type(error).__name__}): make a new tensor there, or use torch 2.13 or later",
            code="capture.in-place",
        ) from error
    graph = _inlined(exported.graph_module)
    for node in graph.nodes:
        places = list(_PLACE.findall(node.meta.get("stack_trace") or ""))
        user_places = [(file, line) for file, line in places if "/torch/nn/" not in file] or places
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        node.meta["place"] = "{}:{}".format(*user_places[-1]) if user_places else ""
        node.meta["module"] = stack[-1][0] if stack else ""
    results = tuple(spec.kind is OutputKind.USER_OUTPUT for spec in exported.graph_signature.output_specs)
    return Trace(graph, _placeholders(exported), results)


def _placeholders(exported: ExportedProgram) -> dict[str, tuple[str, Any]]:
    """The kind of each placeholder with its name or value, by name of the placeholder."""
    names: dict[str, tuple[str, Any]] = {}
    for spec in exported.graph_signature.input_specs:
        name = spec.arg.name
        match spec.kind:
            case InputKind.PARAMETER | InputKind.BUFFER:
                names[name] = ("tensor", str(spec.target))
            case InputKind.CONSTANT_TENSOR:
                names[name] = ("constant", exported.constants[str(spec.target)])
            case InputKind.USER_INPUT:
                names[name] = ("input", name)
            case _:
                raise CaptureError(f"an input of the kind {spec.kind} cannot be captured", code="capture.failed")
    return names


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
