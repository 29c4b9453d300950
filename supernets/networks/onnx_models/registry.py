"""The table of ONNX operators, and what a function of one reads: attributes, tensors, and values that are known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from supernets.errors import CaptureError

Value = Tensor | NDArray[Any]
"""A tensor that depends on the inputs or the weights, or an array whose values are known: constants, and sizes."""
MAX_KNOWN = 2**26
"""The most elements of a known value that is computed: masks of attention have a few million."""
MICROSOFT = "com.microsoft"


@dataclass
class Node:
    """A node of an ONNX graph.

    Attributes:
        version: The version of the operator's domain that the file imports.
        inputs: Names of its values; "" for one that is left out.
        attributes: Values by name: numbers, strings, arrays, tuples of them, or a `Graph`.
        path: Path of the module that the node was part of, as far as names tell.
    """

    op: str
    name: str
    domain: str = ""
    version: int = 0
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    path: str = ""

    @property
    def title(self) -> str:
        """The node in messages."""
        operator = f"{self.domain}.{self.op}" if self.domain else self.op
        return printable(
            f"the node {self.name[:100] or self.outputs[0][:100] if self.outputs else '?'} ({operator[:60]})"
        )


def printable(text: str) -> str:
    """A text of one line, without characters that control a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


class OperatorCall:
    """A node with the values of its inputs.

    Attributes:
        batch: the number of examples, where the file is of a fixed number (`fixed_batch`); else None.
    """

    def __init__(
        self, node: Node, values: list[Value | None], *, batch: int | None = None, fixed_batch: int | None = None
    ) -> None:
        self.node, self.values, self.batch, self.fixed_batch = node, values, batch, fixed_batch
        self.version = node.version

    @property
    def is_known(self) -> bool:
        """Returns True if all its inputs are known values."""
        return all(value is None or isinstance(value, np.ndarray) for value in self.values)

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.node.attributes.get(name, default)

    def has(self, index: int) -> bool:
        """Returns True if an input is there."""
        return index < len(self.values) and self.values[index] is not None

    def value(self, index: int) -> Value:
        if not self.has(index):
            raise CaptureError(f"{self.node.title} lacks its input {index + 1}", code="capture.onnx-malformed")
        return cast(Value, self.values[index])

    def tensor(self, index: int) -> Tensor:
        """An input as a tensor."""
        return as_tensor(self.value(index))

    def optional(self, index: int) -> Tensor | None:
        return self.tensor(index) if self.has(index) else None

    def operand(self, index: int) -> Any:
        """An input as a tensor, or as a number where a single one is known."""
        value = self.value(index)
        others = [other for i, other in enumerate(self.values) if i != index and isinstance(other, Tensor)]
        if isinstance(value, np.ndarray) and value.size == 1 and any(other.ndim >= value.ndim for other in others):
            return value.reshape(()).item()
        return as_tensor(value)

    def known(self, index: int) -> NDArray[Any]:
        """An input whose values must be known.

        Raises:
            CaptureError: it depends on the network's inputs.
        """
        value = self.value(index)
        if isinstance(value, Tensor):
            raise CaptureError(
                f"{self.node.title} takes a shape, an axis or an amount from values of the network's input or weights; "
                "expected one that follows from sizes and constants alone: write the file without it",
                code="capture.data-dependent",
            )
        return value

    def ints(self, index: int, attribute: str = "", default: tuple[int, ...] | None = None) -> tuple[int, ...] | None:
        """Whole numbers of an input, or of an attribute in files of earlier versions."""
        if self.has(index):
            return tuple(int(number) for number in self.known(index).reshape(-1))
        value = self.attribute(attribute, default) if attribute else default
        return value if value is None else tuple(int(number) for number in np.atleast_1d(value))

    def number(self, index: int, attribute: str = "", default: float | None = None) -> Any:
        """A number of an input, or of an attribute in files of earlier versions; None where there is none."""
        if self.has(index):
            return self.known(index).reshape(()).item() if self.known(index).size == 1 else self.reject("its inputs")
        return self.attribute(attribute, default) if attribute else default

    def reject(self, feature: str) -> Any:
        """Raises `CaptureError` for a use of the operator that is not read."""
        raise CaptureError(
            f"{self.node.title}: {feature} cannot be read; write the file without it, or open the network in its own library",
            code="capture.unknown-operation",
        )


Operator = Callable[[OperatorCall], Any]
"""Computes a node: returns a tensor, an array, or a tuple of them, one for each output."""
OPERATORS: dict[tuple[str, str], Operator] = {}
"""By domain and name."""


def operator(*names: str, domain: str = "") -> Callable[[Operator], Operator]:
    """Registers the function of ONNX operators."""

    def register(function: Operator) -> Operator:
        OPERATORS.update(((domain, name), function) for name in names)
        return function

    return register


def as_tensor(value: Value) -> Tensor:
    """A value as a tensor; of a known one, a constant in traces."""
    if isinstance(value, Tensor):
        return value
    with _disable_current_modes():
        return torch.from_numpy(np.array(value))


def compute_known(function: Operator, call: OperatorCall) -> tuple[Value, ...]:
    """The results of a node whose inputs are all known, as arrays.

    Raises:
        CaptureError: a result is too large.
    """
    # Without no_grad: torch.export would make a graph of its own of each change of that mode.
    with _disable_current_modes():
        n_elements = sum(value.size for value in call.values if isinstance(value, np.ndarray))
        if call.node.op in _GROWING or n_elements > 2**12:
            _check_size(function, call)
        results = as_tuple(function(call))
        return tuple(result.detach().numpy() if isinstance(result, Tensor) else result for result in results)


_GROWING = frozenset(
    (
        *("Expand", "Tile", "ConstantOfShape", "Range", "Pad", "Resize", "Upsample", "OneHot", "EyeLike"),
        *("Einsum", "Where", "Max", "Min", "Sum", "Mean", "Conv", "ConvTranspose", "MaxPool", "AveragePool"),
    )
)
"""Operators whose results may be much larger than their inputs together."""


class _OnMeta(OperatorCall):
    """A call whose tensors have shapes and no values."""

    def tensor(self, index: int) -> Tensor:
        value = self.value(index)
        return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value)).to("meta")

    def operand(self, index: int) -> Any:
        return self.tensor(index)


def _check_size(function: Operator, call: OperatorCall) -> None:
    with torch.device("meta"):
        results = as_tuple(function(_OnMeta(call.node, call.values, batch=call.batch, fixed_batch=call.fixed_batch)))
    if max((_elements(result) for result in results), default=0) > MAX_KNOWN:
        shape = " x ".join(str(size) for size in results[0].shape)
        raise CaptureError(
            f"{call.node.title} makes a constant of {shape} elements; expected at most {MAX_KNOWN}",
            code="capture.too-large",
        )


def _elements(result: Any) -> int:
    return int(result.numel()) if isinstance(result, Tensor) else int(np.size(result))


def as_tuple(results: Any) -> tuple[Value, ...]:
    return tuple(results) if isinstance(results, tuple | list) else (results,)
