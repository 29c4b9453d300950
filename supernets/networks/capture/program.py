"""A captured network as plain data: named tensors, and a list of ATen calls with the shape of every value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

from supernets.space.axes import Dim

if TYPE_CHECKING:
    from torch import Tensor

_CONSTANT = re.compile(r"constants_*\.[^.]+")

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ref:
    """A value of the program as an argument of a call."""

    name: str


@dataclass(frozen=True, slots=True)
class Size:
    """A size as an argument of a call, which follows the sizes of the axes."""

    dim: Dim


Argument = Ref | Size | None | bool | int | float | str | tuple["Argument", ...]
"""An argument of a call; a string stands for a type (``dtype:float32``) or for itself."""
BATCH = "batch"
"""The axis of the examples in a `Size`."""
TIED = "*"
"""Stands in `Program.input_dims` for a dimension that the tensors decide."""


@dataclass(frozen=True, slots=True)
class ValueSpec:
    """The shape of a value in the captured forward, and its type as torch names it (``float32``)."""

    shape: Shape
    dtype: str

    @classmethod
    def of(cls, tensor: Tensor) -> ValueSpec:
        """The shape and type of a tensor."""
        return cls(tuple(map(int, tensor.shape)), str(tensor.dtype).removeprefix("torch."))


@dataclass(frozen=True, slots=True)
class Call:
    """One ATen operation.

    Attributes:
        op: its name, e.g. ``aten.conv2d.default``.
        arguments: all of them by the names of the operation's schema.
        outputs: names of its values; "" for a result that is no tensor or is not used.
        module: path of the module whose forward called it; "" for the network's own.
        place: file and line of the call in the user's code; "" where unknown.
    """

    op: str
    arguments: Mapping[str, Argument]
    outputs: tuple[str, ...]
    module: str = ""
    place: str = ""

    @property
    def name(self) -> str:
        """The operation without overload, e.g. ``conv2d``; with its namespace if it is none of torch's, ``mine.conv2d``."""
        namespace, name, _ = self.op.split(".")
        return name if namespace == "aten" else f"{namespace}.{name}"

    def reads(self) -> Iterator[str]:
        """The names of the values that it reads."""
        return refs(self.arguments.values())

    def sizes(self) -> Iterator[Dim]:
        """The sizes among its arguments that follow the axes or the inputs."""
        return _sizes(tuple(self.arguments.values()))

    def reading(self, names: Mapping[str, str]) -> Call:
        """The call with other values in place of these, and in place of those in turn."""
        return replace(
            self, arguments={key: _replace_refs(argument, names) for key, argument in self.arguments.items()}
        )


_WITHOUT_VALUES = (int, float, str, type(None), Size)


def refs(argument: object) -> Iterator[str]:
    """The names of all values in an argument, or in several."""
    if isinstance(argument, Ref):
        yield argument.name
    elif isinstance(argument, tuple):
        for part in argument:
            yield from refs(part)
    elif not isinstance(argument, _WITHOUT_VALUES):
        parts = argument.values() if isinstance(argument, Mapping) else argument
        for part in cast(Iterable[object], parts):
            yield from refs(part)


def _sizes(argument: Argument) -> Iterator[Dim]:
    if isinstance(argument, Size):
        yield argument.dim
    elif isinstance(argument, tuple):
        for part in argument:
            yield from _sizes(part)


def replacement(name: str, names: Mapping[str, str]) -> str:
    """The value that stands for another one, which may itself be replaced; the value where nothing stands for it."""
    while name in names:
        name = names[name]
    return name


def _replace_refs(argument: Argument, names: Mapping[str, str]) -> Argument:
    if isinstance(argument, Ref):
        return Ref(replacement(argument.name, names))
    return tuple(_replace_refs(part, names) for part in argument) if isinstance(argument, tuple) else argument


@dataclass(frozen=True)
class Program:
    """A captured forward in evaluation mode.

    Attributes:
        inputs: names of the inputs.
        tensors: parameters, buffers and constants by their names in the network's state; constants are ``constants.of_N``,
            or ``constants_.of_N`` where the network has something named ``constants``.
        trainable: names of the parameters among the tensors.
        values: Shapes and types of inputs, tensors and the calls' outputs, by name.
        aliases: further names in the user's state of tied tensors, by alias.
        outputs: names of the outputs.
        batch: the batch size of the captured example, the first dimension of every input.
        dynamic: Size that only inputs decide, by value and position of the dimension, as ``batch`` or ``2 tokens``; of a
            plain network (see `supernets.networks.capture.specialisation`), else empty.
        padding: the token that shorter sentences are padded with at their ends, to the length of the captured ones; None for
            other inputs.
        input_dims: Names of each input's dimensions that only the inputs decide, "" for those of one size, and `TIED` for
            those that follow from the tensors, as the heads of a cache; () where the batch alone is dynamic.
    """

    inputs: tuple[str, ...]
    tensors: tuple[str, ...]
    trainable: frozenset[str]
    values: Mapping[str, ValueSpec]
    calls: tuple[Call, ...]
    outputs: tuple[str, ...]
    batch: int
    aliases: Mapping[str, str] = field(default_factory=dict)
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    padding: int | None = None
    input_dims: tuple[tuple[str, ...], ...] = ()

    @property
    def of_tokens(self) -> bool:
        """True if its first input is of whole numbers."""
        return "int" in self.values[self.inputs[0]].dtype

    @cached_property
    def state_values(self) -> frozenset[str]:
        """The values that depend on parameters, buffers and constants alone."""
        names = set(self.tensors)
        for call in self.calls:
            if all(name in names for name in call.reads()):
                names.update(call.outputs)
        return frozenset(names)

    def consumers(self) -> dict[str, list[int]]:
        """Indices of the calls that read each value."""
        readers: dict[str, list[int]] = {}
        for index, call in enumerate(self.calls):
            for name in dict.fromkeys(call.reads()):
                readers.setdefault(name, []).append(index)
        return readers


def product_text(shape: Sequence[int]) -> str:
    """A shape in messages."""
    return " x ".join(map(str, shape)) or "one number"


def first_names(names: Sequence[str], n: int) -> str:
    """The first n names in messages, with the number of the others."""
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")


def state_sources(program: Program) -> dict[str, tuple[str, ...]]:
    """The values that each value of `Program.state_values` is computed from, and itself, by name."""
    sources_by_value: dict[str, tuple[str, ...]] = {name: (name,) for name in program.tensors}
    for call in program.calls:
        if all(name in program.state_values for name in call.outputs if name):
            sources = dict.fromkeys(source for name in call.reads() for source in sources_by_value[name])
            sources_by_value.update((name, (*sources, name)) for name in call.outputs if name)
    return sources_by_value


def needed_calls(calls: Sequence[Call], outputs: Sequence[str]) -> tuple[Call, ...]:
    """The calls on which the outputs depend, in order."""
    needed, selected = set(outputs), []
    for call in reversed(calls):
        if needed.intersection(call.outputs):
            needed.update(call.reads())
            selected.append(call)
    return tuple(reversed(selected))


def is_constant(name: str) -> bool:
    """Returns whether a tensor has a name as capture gives to constants; a module ``constants`` may hold some like them."""
    return _CONSTANT.fullmatch(name) is not None
