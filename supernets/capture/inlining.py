"""Inlines the blocks of a traced graph that a context manager wraps (autocast that is off, or is of another device)."""

from __future__ import annotations

import operator
import re
from typing import Any, cast

from torch import fx

from supernets.errors import CaptureError

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
            inner = next(i for i, own in enumerate(node.args) if isinstance(own, fx.Node) and own.op == "get_attr")
            body = cast(fx.GraphModule, module.get_submodule(str(node.args[inner].target)))
            if node.args[0] == "cpu" and node.args[2]:
                raise CaptureError(
                    f"a part of its forward is in {node.args[1]}, by torch.autocast{_first_place(body)}; captured networks are "
                    "in float32: remove it there, or pass enabled=False",
                    code="capture.model-unusable",
                )
            given = [copies[own] if isinstance(own, fx.Node) else own for own in node.args[inner + 1 :]]
            places = [own for own in body.graph.nodes if own.op == "placeholder"]
            results[node] = graph.graph_copy(body.graph, dict(zip(places, given, strict=True)))
        elif node.target is operator.getitem and node.args[0] in results:
            copies[node] = results[node.args[0]][node.args[1]]
        elif node.op == "output":
            graph.output(fx.node.map_arg(node.args[0], lambda own: copies[own]))
        elif node.op != "get_attr":
            copies[node] = graph.node_copy(node, lambda own: copies[own])
    return graph


def _first_place(body: fx.GraphModule) -> str:
    """File and line of the first call that has them, ``" (at FILE:LINE)"``."""
    places = (_PLACE.findall(own.meta.get("stack_trace") or "") for own in body.graph.nodes)
    return next((" (at {}:{})".format(*own[-1]) for own in places if own), "")
