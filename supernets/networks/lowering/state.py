"""The state that lowering rules share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from supernets.errors import LoweringError
from supernets.networks.capture.dimensions import MismatchError
from supernets.networks.capture.program import BATCH, Argument, Call, Program, Ref, Size
from supernets.networks.onnx_graph.ir import (
    BATCH_SIZE,
    CONTEXT,
    INPUT,
    LENGTH,
    MEMORIES,
    OUTPUT,
    PAST,
    ROOM,
    Attribute,
    Graph,
    Value,
)
from supernets.networks.operations.registry import LOWERED
from supernets.space.axes import Dim

FLOAT, UINT8, INT64, BOOL = 1, 2, 7, 9
"""ONNX's numbers of types."""
TYPES = {"float32": FLOAT, "int64": INT64, "int32": INT64, "uint8": UINT8, "bool": BOOL}
"""Integers with a sign are of 64 bits in the graph."""
MARKS = {BATCH: BATCH_SIZE, "tokens": LENGTH, "past": PAST, "context": CONTEXT, "room": ROOM}
"""The marks in shapes of the graph for each size that only inputs decide."""
MARKS |= {f"{n} tokens": mark for n, mark in enumerate(MEMORIES[1:], 2)}


class Lowering(Graph):
    """The graph of a program so far, with the values of the program by their names in it.

    Attributes:
        inputs: Inputs of the graph.

    Args:
        names: Names of the inputs in the graph.
    """

    def __init__(self, program: Program, tensors: Mapping[str, Tensor], names: Sequence[str]) -> None:
        super().__init__()
        self.program, self._tensors = program, tensors
        self.inputs = [
            self.declare(name, marked_shape(program, value), integer="int" in program.values[value].dtype)
            for name, value in zip(names, program.inputs, strict=True)
        ]
        self._batch: Value | None = None
        self._x = self.inputs[0]
        self._values: dict[str, Value] = dict(zip(program.inputs, [self._padded(), *self.inputs[1:]], strict=True))

    @property
    def declared(self) -> bool:
        """True if a family declared the program, whose models stay as earlier versions wrote them."""
        return bool(self.program.input_dims)

    def _padded(self) -> Value:
        """The input; sentences, which may be shorter than the captured ones, are padded at their ends."""
        if self.program.padding is None:
            return self._x
        tokens = self.program.values[self.program.inputs[0]].shape[1]
        missing = self.add("Sub", self.numbers([tokens]), self.add("Shape", self._x, start=1, end=2))
        ends = self.add("Concat", self.numbers([0, 0, 0]), missing, axis=0)
        padded = self.add("Pad", self._x, ends, self.whole(self.program.padding), mode="constant")
        return self.declare(padded.name, (BATCH_SIZE, tokens), integer=True)

    def begin(self, name: str) -> None:
        """Takes the batch size from a value from now on."""
        self._x, self._batch = self.value(name), None

    def lower(self, call: Call) -> None:
        """Appends the nodes of a call, and sets its outputs, with their shapes."""
        where = f"in {call.module or 'the network'}{call.place and f' (at {call.place})'}"
        rule = LOWERED.get(call.name)
        if rule is None:
            raise LoweringError(f"there is no rule for {call.op} {where}")
        try:
            results = rule(self, call)
        except LoweringError as error:
            raise LoweringError(f"{error} {where}", code=error.code) from error
        except MismatchError as error:
            raise LoweringError(f"there is no rule for {call.op} with {error} {where}") from error
        for name, value in zip(call.outputs, [results] if isinstance(results, Value) else results, strict=False):
            if name:
                if (dtype := self._type_of(name)) not in TYPES:
                    raise LoweringError(f"there is no rule for {call.op} of {dtype}")
                self._values[name] = self.declare(
                    value.name, marked_shape(self.program, name), integer=dtype == "int64"
                )
                if dtype == "uint8":
                    self.bytes.add(value.name)

    def value(self, name: str) -> Value:
        """A value of the program; a tensor becomes a parameter of the graph when it is first read."""
        if name not in self._values:
            if name not in self._tensors:
                raise LoweringError(f"there is no rule for {name}, a further result of an operation")
            tensor = self._tensors[name].detach()
            if tensor.dtype is torch.int32:
                tensor = tensor.long()
            is_reserved = name in (INPUT, OUTPUT) or (name.startswith(f"{INPUT}_") and "." not in name)
            parameter = f"{name}." if is_reserved else name  # no tensor's name ends with a dot
            if tensor.dtype is torch.bool:
                self.parameters[parameter] = tensor.cpu().numpy()
                self._values[name] = self.declare(parameter, tuple(tensor.shape))
            else:
                self._values[name] = self.parameter(parameter, tensor)
        return self._values[name]

    def tensor(self, argument: Argument) -> Value:
        """A tensor argument."""
        if not isinstance(argument, Ref):
            raise LoweringError(f"expected a tensor, got {argument!r}")
        return self.value(argument.name)

    def is_read(self, name: str) -> bool:
        """Returns whether a call reads a value."""
        return any(name in call.reads() for call in self.program.calls)

    def shape(self, argument: Argument) -> tuple[int, ...]:
        """The shape of a tensor argument in the captured batch."""
        return self.program.values[cast(Ref, argument).name].shape

    def dynamic(self, argument: Argument) -> Mapping[int, str]:
        """The dimensions of a tensor argument whose sizes only inputs decide, see `Program.dynamic`."""
        return self.program.dynamic.get(cast(Ref, argument).name, {})

    def rank(self, argument: Argument) -> int:
        """The number of dimensions of a tensor argument."""
        return len(self.shape(argument))

    def dtype(self, argument: Argument) -> str:
        """The type that a tensor argument has in the graph; "" for other arguments."""
        return self._type_of(argument.name) if isinstance(argument, Ref) else ""

    def result_shape(self, call: Call) -> tuple[int, ...]:
        """The shape of a call's first result in the captured batch."""
        return self.program.values[call.outputs[0]].shape

    def result_type(self, call: Call) -> str:
        """The type that a call's first result has in the graph."""
        return self._type_of(call.outputs[0])

    def _type_of(self, name: str) -> str:
        dtype = self.program.values[name].dtype
        return "int64" if dtype == "int32" else dtype

    def add_many(self, op: str, inputs: Sequence[Value | None], n: int, **attributes: Attribute) -> list[Value]:
        """Appends a node with n outputs.

        Raises:
            LoweringError: an attribute depends on the batch, as the groups of a convolution with weights for each example do.
        """
        for key, value in attributes.items():
            if isinstance(value, Size):
                raise LoweringError(f"there is no rule for {op} whose {key} depends on the size of the batch")
        return super().add_many(op, inputs, n, **attributes)

    def batch(self) -> Value:
        """The batch size as a vector of one integer."""
        if self._batch is None:
            self._batch = self.add("Shape", self._x, start=0, end=1)
        return self._batch

    def size(self, argument: Argument) -> Value:
        """A size as a vector of one integer."""
        if isinstance(argument, int):
            return self.numbers([argument])
        if not isinstance(argument, Size):
            raise LoweringError(f"expected a size, got {argument!r}")
        parts = list(_factors(argument.dim))
        factors = [part for part in parts if isinstance(part, int)]
        if parts.count(BATCH) != 1 or len(factors) != len(parts) - 1:
            raise LoweringError(f"there is no rule for the size {argument.dim}")
        return self.add("Mul", self.batch(), self.numbers([math.prod(factors)])) if factors else self.batch()

    def reshaped(self, call: Call, source: Value) -> Value:
        """A value in the shape of the call's output."""
        dynamic = self.program.dynamic.get(call.outputs[0], ())
        if len(dynamic) > 1:
            raise LoweringError("a reshape has several sizes that depend on the batch")
        sizes = [-1 if i in dynamic else size for i, size in enumerate(self.result_shape(call))]
        # The batch is computed, not copied by a size of 0, of users' models, too: else ONNX Runtime would see that the terms of
        # sums have one shape, and fuse sums and norms to SkipLayerNormalization, which takes longer than both on a CPU.
        return self.add("Reshape", source, self.numbers(sizes))


def _factors(dim: Dim) -> Iterator[Dim]:
    """The factors of a product, of products in it, too."""
    if isinstance(dim, tuple):
        for part in dim:
            yield from _factors(part)
    else:
        yield dim


def marked_shape(program: Program, name: str) -> tuple[int, ...]:
    """The shape of a value in the graph, in which marks stand for sizes that only inputs decide."""
    dynamic = program.dynamic.get(name, {})
    marks = {i: MARKS.get(length, MARKS[length.rpartition(" ")[2]]) for i, length in dynamic.items()}
    return tuple(marks.get(i, size) for i, size in enumerate(program.values[name].shape))


def ints(argument: Argument, n: int) -> tuple[int, ...]:
    """n numbers from an argument of one or n."""
    numbers = cast(tuple[int, ...], argument if isinstance(argument, tuple) else (argument,))
    return numbers * n if len(numbers) == 1 else numbers
