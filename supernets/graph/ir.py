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

Attribute = int | float | str | tuple[int, ...]


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
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.parameters: dict[str, NDArray[np.generic]] = {}
        self.constants: dict[str, NDArray[np.generic]] = {}
        self.shapes: dict[str, Shape] = {}

    def input(self, name: str, shape: Shape) -> Value:
        """Declares a value that comes from outside."""
        self.shapes[name] = shape
        return Value(name, shape)

    def parameter(self, name: str, tensor: Tensor) -> Value:
        """A module's own tensor under its name in the module tree; the same name twice is the same tensor.

        Raises:
            LoweringError: it is neither of 32-bit floats nor of 64-bit integers.
        """
        if tensor.dtype not in (torch.float32, torch.int64):
            raise LoweringError(
                f"{name} is of {tensor.dtype}; only float32 networks are lowered: convert it by .float()"
            )
        array = self.parameters[name] = tensor.detach().cpu().numpy()
        return self.input(name, array.shape)

    def constant(self, array: NDArray[np.generic]) -> Value:
        """A number or an array that belongs to an operation."""
        name = f"/constant_{len(self.constants)}"  # no parameter's name has a slash
        self.constants[name] = array
        return self.input(name, array.shape)

    def integers(self, numbers: Sequence[int]) -> Value:
        """A constant vector of 64-bit integers, as axes and shapes are."""
        return self.constant(np.array(numbers, dtype=np.int64))

    def scalar(self, number: float) -> Value:
        """A constant of no dimensions."""
        return self.constant(np.array(number, dtype=np.float32))

    def add(self, op: str, inputs: Sequence[Value | None], shape: Shape, **attributes: Attribute) -> Value:
        """Appends a node of one output, and gives that."""
        return self.add_many(op, inputs, [shape], **attributes)[0]

    def add_many(
        self, op: str, inputs: Sequence[Value | None], shapes: Sequence[Shape], **attributes: Attribute
    ) -> list[Value]:
        """Appends a node of several outputs.

        Raises:
            LoweringError: an output's dimension comes out empty.
        """
        outputs = []
        for i, shape in enumerate(shapes):
            if any(n < 1 for n in shape[1:]) or (shape and shape[0] < 1 and shape[0] != BATCH_SIZE):
                raise LoweringError(f"{op} gives an output of shape {shape}; the input is too small for the network")
            outputs.append(self.input(f"/{op.lower()}_{len(self.nodes)}" + (f"_{i}" if i else ""), shape))
        names = tuple("" if value is None else value.name for value in inputs)
        self.nodes.append(Node(op, names, tuple(value.name for value in outputs), attributes))
        return outputs
