"""The ATen operations of calls."""

from __future__ import annotations

from typing import Any

import torch

from supernets.capture.program import Call
from supernets.errors import CaptureError
from supernets.own_operations import FUNCTIONS, NAMESPACE


def operation(call: Call) -> Any:
    """The ATen operation of a call."""
    namespace, name, overload = call.op.split(".")
    if namespace == NAMESPACE:
        return FUNCTIONS[call.name]
    try:
        return getattr(getattr(getattr(torch.ops, namespace), name), overload)
    except AttributeError:
        text = f"this version of torch has no operation {call.op}; capture the network again"
        raise CaptureError(text, code="capture.unknown-operation") from None
