"""In-place calls of a traced graph: the same computed out of place, also where a part of a tensor is changed."""

from __future__ import annotations

import operator
from typing import Any, cast

import torch
from torch import fx
from torch.export import ExportedProgram

from supernets.capture.contexts import quiet
from supernets.errors import CaptureError

_VIEWS = frozenset((
    "slice", "select", "view", "transpose", "permute", "narrow", "unbind", "split", "split_with_sizes", "chunk", "expand",
    "unsqueeze", "squeeze", "reshape", "flatten", "unflatten", "t", "numpy_T", "mT", "movedim", "diagonal", "contiguous",
    "view_as", "expand_as", "swapaxes", "tensor_split", "unfold",
))  # fmt: skip
"""Operations whose result may share the memory of their first argument."""


class MutatedViewError(CaptureError):
    """A call changes a tensor whose memory others read."""


def without_mutations(exported: ExportedProgram) -> ExportedProgram:
    """The traced program without in-place calls; other operations stay as they are."""
    with quiet():
        return cast(ExportedProgram, exported.run_decompositions({}))


def operation_out_of_place(target: Any, at: str) -> Any:
    """The operation, or what computes the same out of place.

    Args:
        at: where it is called, for the message.

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
    """Whether an in-place call changes other values that are read later: views of its argument, or what that is a view of."""
    changed = cast(fx.Node, call.args[0])
    if any(_viewed(user) and user < call for user in changed.users):
        return True
    while source := _viewed(changed):
        if any(user is not changed and (call < user or _viewed(user)) for user in source.users):
            return True
        changed = source
    return False


def _viewed(node: fx.Node) -> fx.Node | None:
    """The value of which a value may be a view."""
    if node.target is operator.getitem:
        source = cast(fx.Node, node.args[0])
        return source if _viewed(source) else None
    if not isinstance(node.target, torch._ops.OpOverload):
        return None
    name = node.target.name().split("::")[-1].split(".")[0]
    return cast(fx.Node, node.args[0]) if name in _VIEWS else None
