"""Intermediate representation of a lowered module: nodes over named values, without copies of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernets.errors import LoweringError

_type_mismatch = partial(LoweringError, code="export.type-mismatch")

Shape = tuple[int, ...]
INPUT, OUTPUT = "input", "logits"
"""Names of the first input and of the output."""
BATCH, LENGTH_NAME = "batch", "tokens"
"""Names of the dynamic dimensions of inputs in models."""
BATCH_SIZE = -1
"""Stands in a shape for the dynamic batch size; only the first dimension can be the batch."""
LENGTH = -2
"""Stands in a shape for the dynamic number of tokens."""
PAST, CONTEXT = -3, -4
"""Stand in a shape for the dynamic number of tokens in a cache, and for that of these and the new ones."""
ROOM = -5
"""Stands in a shape for the number of tokens that a cache has room for."""
MEMORIES = (LENGTH, -7, -8)
"""Stand in a shape for the dynamic number of tokens, for twice and for three times as many."""
TOKENS: Shape = (LENGTH,)
"""The input shape of networks that read 64-bit token ids in sentences of any length."""

Attribute = int | float | str | tuple[int, ...] | list[str]


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the graph: an input, a node's output, a parameter or a constant.

    Attributes:
        shape: with marks for dynamic sizes; () for values within an operation, whose shapes are not known.
    """

    name: str
    shape: Shape = ()

    @property
    def rank(self) -> int:
        """The number of dimensions, including the batch."""
        return len(self.shape)


@dataclass(frozen=True, slots=True)
class Node:
    """One ONNX operation. An empty input name stands for an omitted optional input."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


class Graph:
    """Nodes in the order of their execution, and the tensors that they read.

    Attributes:
        parameters: Parameters of the module, by name; arrays may be strided views.
        constants: Constants of the operations (axes, shapes, scales), by name.
        shapes: Shapes of inputs, parameters, constants and results of operations, by name.
        integers: the names of inputs, parameters, constants and values of the program that are 64-bit integers.
        bytes: the names of values of the program that are 8-bit integers without a sign.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.parameters: dict[str, NDArray[np.generic]] = {}
        self.constants: dict[str, NDArray[np.generic]] = {}
        self.shapes: dict[str, Shape] = {}
        self.integers: set[str] = set()
        self.bytes: set[str] = set()

    def declare(self, name: str, shape: Shape, *, integer: bool = False) -> Value:
        """A value with its shape, from outside the graph or of one of its nodes."""
        self.shapes[name] = shape
        if integer:
            self.integers.add(name)
        return Value(name, shape)

    def parameter(self, name: str, tensor: Tensor) -> Value:
        """A module's own tensor under its name in the module tree.

        Raises:
            LoweringError: its type is neither float32 nor int64, or it is sparse or on the meta device.
        """
        if tensor.layout is not torch.strided or tensor.is_meta:
            raise LoweringError(f"{name} is sparse or on the meta device; expected a dense tensor")
        if tensor.dtype not in (torch.float32, torch.int64):
            raise _type_mismatch(f"{name} is {tensor.dtype}; expected float32: convert the network by .float()")
        array = self.parameters[name] = tensor.detach().cpu().numpy()
        return self.declare(name, array.shape, integer=tensor.dtype == torch.int64)

    def constant(self, array: NDArray[np.generic]) -> Value:
        """A constant input of an operation."""
        name = f"/constant_{len(self.constants)}"  # parameter names have no slash
        self.constants[name] = array
        return self.declare(name, array.shape, integer=array.dtype == np.int64)

    def numbers(self, numbers: Sequence[int]) -> Value:
        """A constant vector of 64-bit integers, for axes and shapes."""
        return self.constant(np.array(numbers, dtype=np.int64))

    def floats(self, numbers: Sequence[float]) -> Value:
        """A constant vector of 32-bit floats."""
        return self.constant(np.array(numbers, dtype=np.float32))

    def whole(self, number: int) -> Value:
        """A constant 64-bit integer without dimensions."""
        return self.constant(np.array(number, dtype=np.int64))

    def scalar(self, number: float) -> Value:
        """A constant 32-bit float without dimensions."""
        return self.constant(np.array(number, dtype=np.float32))

    def add(self, op: str, *inputs: Value | None, **attributes: Attribute) -> Value:
        """Appends a node with one output and returns the output, whose shape is not known."""
        return self.add_many(op, inputs, 1, **attributes)[0]

    def add_many(self, op: str, inputs: Sequence[Value | None], n: int, **attributes: Attribute) -> list[Value]:
        """Appends a node with n outputs and returns them, see `add`."""
        names = tuple("" if value is None else value.name for value in inputs)
        index = len(self.nodes)
        outputs = [Value(f"/{op.lower()}_{index}" + (f"_{i}" if i else "")) for i in range(n)]
        self.nodes.append(Node(op, names, tuple(value.name for value in outputs), attributes))
        return outputs
