"""The graph that the walk builds: light nodes over named values, tensors still as torch holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernets.errors import LoweringError

Shape = tuple[int, ...]
BATCH_SIZE = -1
"""Stands in a shape for the size of the batch, which only the run knows; it can only be the first dimension."""
LENGTH = -2
"""Stands in a shape for the number of tokens, which only the run knows, too."""
TOKENS: Shape = (LENGTH,)
"""The input shape of networks that take token ids, of 64-bit integers, in sentences of any length."""

Attribute = int | float | str | tuple[int, ...]
_DYNAMIC = (BATCH_SIZE, LENGTH)
_OF_INTEGERS = frozenset(
    (
        "Add", "Concat", "Equal", "Flatten", "Gather", "Identity", "Mul", "Reshape", "Shape", "Split", "Squeeze", "Sub",
        "Transpose",
    )
)  # fmt: skip
"""Operations that compute on whole numbers what torch's do."""
_ANSWERS = frozenset(("Equal",))
"""Operations that give truth values, whatever they are of; only a Cast to float32 follows them."""
_INDEXED = frozenset(("Gather", "Pad", "ReduceMean", "Reshape", "Slice", "Squeeze", "Unsqueeze"))
"""Operations whose other inputs are of whole numbers, whatever the first is; of all others, the inputs are of one type."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the graph: an input, a node's output, a parameter or a constant."""

    name: str
    shape: Shape

    @property
    def rank(self) -> int:
        """The number of dimensions, the batch's included."""
        return len(self.shape)

    @property
    def batched(self) -> bool:
        """Whether the first dimension is the batch."""
        return bool(self.shape) and self.shape[0] == BATCH_SIZE


@dataclass(frozen=True, slots=True)
class Node:
    """One ONNX operation. An empty input name is an optional input left out."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


class Graph:
    """Nodes in the order of their execution, and the tensors that they read.

    Attributes:
        parameters: what training made, by name; arrays may be strided views.
        constants: numbers of the operations themselves (axes, shapes, scales), by name.
        shapes: of every value, by name.
        integers: the names of the values that are of 64-bit integers; all others are of 32-bit floats.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.parameters: dict[str, NDArray[np.generic]] = {}
        self.constants: dict[str, NDArray[np.generic]] = {}
        self.shapes: dict[str, Shape] = {}
        self.integers: set[str] = set()
        self._memory: dict[str, list[str]] = {}
        """Of a value that shares its memory with others: their names, one list for all of them."""
        self._overwritten: set[str] = set()

    def input(self, name: str, shape: Shape, *, integer: bool = False) -> Value:
        """Declares a value that comes from outside."""
        self.shapes[name] = shape
        if integer:
            self.integers.add(name)
        return Value(name, shape)

    def parameter(self, name: str, tensor: Tensor) -> Value:
        """A module's own tensor under its name in the module tree; the same name twice is the same tensor.

        Raises:
            LoweringError: it is neither of 32-bit floats nor of 64-bit integers, or its numbers are not all in memory.
        """
        if tensor.layout is not torch.strided or tensor.is_meta:
            raise LoweringError(f"{name} is sparse, or has no numbers; only plain tensors are lowered")
        if tensor.dtype not in (torch.float32, torch.int64):
            raise LoweringError(
                f"{name} is of {tensor.dtype}; only float32 networks are lowered: convert it by .float()"
            )
        array = self.parameters[name] = tensor.detach().cpu().numpy()
        if tensor.dtype == torch.int64:
            self.integers.add(name)
        return self.input(name, array.shape)

    def constant(self, array: NDArray[np.generic]) -> Value:
        """A number or an array that belongs to an operation."""
        name = f"/constant_{len(self.constants)}"  # no parameter's name has a slash
        self.constants[name] = array
        if array.dtype == np.int64:
            self.integers.add(name)
        return self.input(name, array.shape)

    def numbers(self, numbers: Sequence[int]) -> Value:
        """A constant vector of 64-bit integers, as axes and shapes are."""
        return self.constant(np.array(numbers, dtype=np.int64))

    def scalar(self, number: float) -> Value:
        """A constant of no dimensions, of 32-bit floats."""
        return self.constant(np.array(number, dtype=np.float32))

    def add(self, op: str, inputs: Sequence[Value | None], shape: Shape, **attributes: Attribute) -> Value:
        """Appends a node of one output, and gives that."""
        return self.add_many(op, inputs, [shape], **attributes)[0]

    def add_many(
        self, op: str, inputs: Sequence[Value | None], shapes: Sequence[Shape], **attributes: Attribute
    ) -> list[Value]:
        """Appends a node of several outputs.

        Raises:
            LoweringError: an output's dimension comes out empty, the inputs' types do not go together, or one was overwritten.
        """
        integer = self._check_inputs(op, [value.name for value in inputs if value is not None])
        outputs = []
        for i, shape in enumerate(shapes):
            if any(n < 1 and n != LENGTH for n in shape[1:]) or (shape and shape[0] < 1 and shape[0] not in _DYNAMIC):
                raise LoweringError(f"{op} gives an output of shape {shape}; the input is too small for the network")
            outputs.append(self.input(f"/{op.lower()}_{len(self.nodes)}" + (f"_{i}" if i else ""), shape))
        if integer and op not in _ANSWERS:
            self.integers.update(value.name for value in outputs)
        names = tuple("" if value is None else value.name for value in inputs)
        self.nodes.append(Node(op, names, tuple(value.name for value in outputs), attributes))
        return outputs

    def _check_inputs(self, op: str, names: Sequence[str]) -> bool:
        """Whether the operation is on whole numbers."""
        self.check_read(*names)
        integer = names[0] in self.integers
        if integer and op not in _OF_INTEGERS:
            raise LoweringError(f"{op} of whole numbers is not lowered")
        if op not in _INDEXED and len(self.integers.intersection(names)) != (len(set(names)) if integer else 0):
            raise LoweringError(f"{op} of tensors of different types is not lowered: convert them in the network")
        return integer

    def check_read(self, *names: str) -> None:
        """Refuses to read what is not there any more.

        Raises:
            LoweringError: an operation in place has written over one of the values.
        """
        if not self._overwritten.isdisjoint(names):
            raise LoweringError("a tensor is read again after an operation in place has changed it; do it out of place")

    def view(self, of: Value, value: Value) -> Value:
        """Says that torch may hold a value in another one's memory; gives the value."""
        sharing = self._memory.setdefault(of.name, [of.name])
        sharing.append(value.name)
        self._memory[value.name] = sharing
        return value

    def overwrite(self, old: Value, new: Value) -> Value:
        """Says that torch writes `new` into the memory of `old`, which nothing may read from now on; gives `new`.

        Raises:
            LoweringError: `old` lies in a parameter, or is of another shape.
        """
        sharing = self._memory.get(old.name, [old.name])
        if any(name in self.parameters for name in sharing):
            raise LoweringError("an operation in place changes a tensor of the module itself")
        if new.shape != old.shape:
            raise LoweringError(f"an operation in place makes {new.shape} of {old.shape}")
        self._overwritten.update(sharing)
        self._memory[new.name] = [new.name]
        return new
