"""Lowering of operations that take overlapping windows out of an image, and put them back."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from supernets.capture.lowering.state import Lowering, ints, lowers
from supernets.capture.program import Call, Ref


def _starts(n: int, step: int, size: int, dilation: int = 1) -> NDArray[np.int64]:
    """Positions of the elements of n windows, (n, size)."""
    found: NDArray[Any] = np.arange(n)[:, None] * step + np.arange(size)[None] * dilation
    return found.astype(np.int64)


@lowers("im2col")
def _windows(low: Lowering, call: Call) -> None:
    """Two gathers: of the rows of every window, then of the columns."""
    a = call.arguments
    x, shape = low.tensor(a["self"]), low.shape(cast(Ref, a["self"]).name)
    kernel, dilations, pads, steps = (ints(a[name], 2) for name in ("kernel_size", "dilation", "padding", "stride"))
    if any(pads):
        x = low.one("Pad", x, low.numbers([0, 0, *pads, 0, 0, *pads]))
    for axis, (size, own, dilation, pad, step) in enumerate(
        zip(shape[2:], kernel, dilations, pads, steps, strict=True)
    ):
        n = (size + 2 * pad - dilation * (own - 1) - 1) // step + 1
        x = low.one("Gather", x, low.graph.constant(_starts(n, step, own, dilation).T.copy()), axis=2 + 2 * axis)
    x = low.one("Transpose", x, perm=(0, 1, 2, 4, 3, 5))
    low.returns(call, low.one("Reshape", x, low.numbers([0, *low.shape(call.outputs[0])[1:]])))


@lowers("col2im")
def _image(low: Lowering, call: Call) -> None:
    a = call.arguments
    low.returns(call, low.one(
        "Col2Im", low.tensor(a["self"]), low.numbers(ints(a["output_size"], 2)), low.numbers(ints(a["kernel_size"], 2)),
        dilations=ints(a["dilation"], 2), pads=ints(a["padding"], 2) * 2, strides=ints(a["stride"], 2),
    ))  # fmt: skip


@lowers("unfold")
def _unfold(low: Lowering, call: Call) -> None:
    a = call.arguments
    rank = low.rank(a["self"])
    axis, size, step = cast(int, a["dimension"]) % rank, cast(int, a["size"]), cast(int, a["step"])
    n = low.shape(call.outputs[0])[axis]
    x = low.one("Gather", low.tensor(a["self"]), low.graph.constant(_starts(n, step, size)), axis=axis)
    low.returns(call, low.one("Transpose", x, perm=(*range(axis + 1), *range(axis + 2, rank + 1), axis + 1)))
