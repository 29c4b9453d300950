"""Infers which dimensions of a captured program are the same, which may shrink, and why the others may not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import EllipsisType

from supernets.networks.capture.dimensions import (
    BATCH_REASON,
    Dimension,
    MismatchError,
    concatenation,
    divide,
    find,
    fix,
    fixed,
    product,
    singles,
    unify,
)
from supernets.networks.capture.program import BATCH, TIED, Argument, Call, Program, Ref
from supernets.space.axes import Axes, Concat, Dim, NamedDims

Dims = list[Dimension]
SymbolicArgument = Dimension | int | tuple["SymbolicArgument", ...]
"""An argument that restates sizes, by the dimensions that it restates."""


def remedy(call: Call) -> str:
    """The advice on an operation without a rule that computes a weight, ``" (...)"``; "" for others."""
    if "parametrizations" in call.module.split("."):
        return " (torch.nn.utils.parametrize.remove_parametrizations makes the weight a plain one)"
    if any(name.endswith(("weight_u", "weight_v")) for name in call.reads()):
        return " (torch.nn.utils.remove_spectral_norm makes the weight a plain one)"
    return ""


@dataclass
class Inference:
    """The dimensions of every value of a program, while its calls are read in order.

    Attributes:
        batch: the dimension of the examples.
        dims: Dimensions of every value so far.
        symbolic: Arguments that depend on sizes, by index of the call.
        unknown: operations without a rule, with the number of their calls.
        axes: the dimensions of the declared axes, by name.
        lengths: the dimensions whose sizes only the inputs decide, by name.

    Args:
        declared: dimensions of tensors, where a family states them; all others are inferred.
        declared_axes: the axes in them.
    """

    program: Program
    declared: Mapping[str, NamedDims] = field(default_factory=dict)
    declared_axes: Axes = field(default_factory=dict)
    batch: Dimension = field(init=False)
    axes: dict[str, Dimension] = field(init=False)
    lengths: dict[str, Dimension] = field(default_factory=dict)
    dims: dict[str, Dims] = field(default_factory=dict)
    symbolic: dict[int, dict[str, SymbolicArgument]] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    _call: int = -1

    def __post_init__(self) -> None:
        self.batch = self.dynamic(BATCH, self.program.batch)
        self.axes = {
            axis.name: Dimension(axis.size, label=axis.name, centred=axis.slice == "centre")
            for axis in self.declared_axes.values()
        }
        n_inputs = len(self.program.inputs)
        for i, name in enumerate(self.program.inputs):
            shape = self.program.values[name].shape
            names = self.program.input_dims[i] if self.program.input_dims else (BATCH,) + ("",) * (len(shape) - 1)
            reason = f"the size of the input {name[1:]}" if n_inputs > 1 else "the size of the input"
            self.dims[name] = [
                self._input_dim(dim_name, size, reason) for dim_name, size in zip(names, shape, strict=True)
            ]
        for name in self.program.tensors:
            self.dims[name] = [
                Dimension(size, label=f"{name}[{position}]", fixed="a size of 1" if size == 1 else "")
                for position, size in enumerate(self.program.values[name].shape)
            ]
            declared = [
                self._declared_dim(dim) for dim in self.declared.get(name, ()) if not isinstance(dim, EllipsisType)
            ]
            self.dims[name][: len(declared)] = declared
            if (sizes := [find(dimension).size for dimension in self.dims[name]]) != list(
                self.program.values[name].shape
            ):
                raise MismatchError(
                    f"tensor {name} has the shape {self.program.values[name].shape}, and it is declared {sizes}"
                )

    def _input_dim(self, name: str, size: int, reason: str) -> Dimension:
        if name == TIED:
            return Dimension(size, label=reason)
        return self.dynamic(name, size) if name else fixed(size, reason)

    def _declared_dim(self, dim: Dim) -> Dimension:
        """A dimension as a family declares it; the same axis is the same dimension everywhere."""
        if isinstance(dim, int):
            return fixed(dim, "the family declares it as fixed")
        if isinstance(dim, str):
            return self.axes[dim]
        if isinstance(dim, Concat):
            return concatenation([self._declared_dim(part) for part in dim.parts])
        if isinstance(dim, tuple):
            return product([self._declared_dim(part) for part in dim])
        raise TypeError(f"expected a size, an axis, a product or a concatenation, got {dim}")

    def dynamic(self, name: str, size: int) -> Dimension:
        """The dimension of a size that only the inputs decide."""
        if name not in self.lengths:
            reason = BATCH_REASON if name == BATCH else f"the inputs decide it ({name})"
            self.lengths[name] = Dimension(size, fixed=reason, label=name, dynamic=name)
        return self.lengths[name]

    def run(self, rules: Mapping[str, Callable[[Inference, Call], Dims | tuple[Dims, ...]]]) -> None:
        """Applies the rule of each call; an operation without one, or that its rule does not fit, fixes its dimensions."""
        for index, call in enumerate(self.program.calls):
            self._call = index
            rule = rules.get(call.name)
            if rule is None:
                self.unknown[call.op] = self.unknown.get(call.op, 0) + 1
                self.fix_call(call, f"{call.name} has no rule", remedy(call))
                continue
            try:
                self._set_outputs(call, rule(self, call))
            except (MismatchError, IndexError, ValueError, TypeError, RecursionError) as error:
                self.symbolic.pop(index, None)
                self.fix_call(call, f"{call.name} is used in an unknown way ({error})")
        for name in self.program.outputs if not self.declared else ():
            for dimension in self.dims[name]:
                fix(dimension, "an output of the network")

    def fix_call(self, call: Call, reason: str, then: str = "") -> None:
        """Fixes all dimensions that a call reads or returns."""
        where = (f"{reason} in {call.module}" if call.module else reason) + then
        for name in call.reads():
            for dimension in self.dims[name]:
                fix(dimension, where)
        for name in filter(None, call.outputs):
            self.dims[name] = [
                self.batch if not i and size == self.program.batch else fixed(size, where)
                for i, size in enumerate(self.shape(name))
            ]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value in the captured forward."""
        return self.program.values[name].shape

    def tensor_dims(self, argument: Argument) -> Dims:
        """The dimensions of a tensor argument."""
        if not isinstance(argument, Ref):
            raise TypeError("expected a tensor")
        return list(self.dims[argument.name])

    def optional_dims(self, argument: Argument) -> Dims | None:
        """The dimensions of a tensor argument, or None."""
        return self.tensor_dims(argument) if isinstance(argument, Ref) else None

    def is_declared(self, dimension: Dimension) -> bool:
        """Returns whether a dimension has a declared axis, which is elastic even where others of its kind stay as they are."""
        roots = {id(find(axis)) for axis in self.axes.values()}
        return any(id(single) in roots for single in singles(dimension))

    def is_state(self, argument: Argument) -> bool:
        """Returns whether a value is computed from parameters, buffers and constants alone."""
        return isinstance(argument, Ref) and argument.name in self.program.state_values

    def _set_outputs(self, call: Call, dims: Dims | tuple[Dims, ...]) -> None:
        """Sets the dimensions of the call's outputs; a size that differs is a `MismatchError`."""
        for name, output_dims in zip(call.outputs, dims if isinstance(dims, tuple) else (dims,), strict=False):
            if not name:
                continue
            sizes = tuple(find(dimension).size for dimension in output_dims)
            if sizes != self.shape(name):
                raise MismatchError(f"{sizes} and {self.shape(name)}")
            self.dims[name] = list(output_dims)

    @property
    def previous(self) -> Call | None:
        """The call before the current one; None for the first."""
        return self.program.calls[self._call - 1] if self._call else None

    def depends(self, n_before: int = 0, /, **arguments: SymbolicArgument) -> None:
        """Declares that arguments of the current call, or of that n calls before it, restate sizes."""
        self.symbolic.setdefault(self._call - n_before, {}).update(arguments)

    def broadcast(self, operands: Sequence[Dims]) -> Dims:
        """The dimensions of an elementwise result; sizes of 1 give way."""
        rank = max(map(len, operands))
        out: Dims = []
        for position in range(rank):
            aligned = [dims[position - rank] for dims in operands if len(dims) >= rank - position]
            size = max(find(dimension).size for dimension in aligned)
            first: Dimension | None = None
            for dimension in aligned:
                if find(dimension).size != size:
                    continue
                first = dimension if first is None else unify(first, dimension)
            assert first is not None
            out.append(first)
        return out


def reshaped(dims: Sequence[Dimension], sizes: Sequence[int]) -> Dims:
    """The dimensions of a tensor viewed with other sizes (no -1): merged, divided or both, in row-major order."""
    source = [dimension for dimension in dims if find(dimension).size != 1]
    out: list[Dimension] = [fixed(1, "a size of 1") for _ in sizes]
    targets = [i for i, size in enumerate(sizes) if size != 1]
    while source and targets:
        group, chosen = [source.pop(0)], [targets.pop(0)]
        while (have := prod(find(dimension).size for dimension in group)) != (want := prod(sizes[i] for i in chosen)):
            if have < want:
                group.append(source.pop(0))
            else:
                chosen.append(targets.pop(0))
        merged = product(group)
        parts = [merged] if len(chosen) == 1 else _divide_or_fix(merged, [sizes[i] for i in chosen])
        for i, part in zip(chosen, parts, strict=True):
            out[i] = part
    if source or targets:
        raise MismatchError(f"the sizes {tuple(sizes)}")
    return out


def _divide_or_fix(dimension: Dimension, sizes: Sequence[int]) -> Dims:
    """The factors of these sizes; a dimension that is already divided otherwise becomes fixed, unless the batch is in it."""
    try:
        return divide(dimension, sizes)
    except MismatchError:
        if any(single.dynamic for single in singles(dimension)):
            raise
        fix(dimension, "it is divided in two ways that do not fit together")
        return [fixed(size, "a part of a size that is divided in two ways") for size in sizes]
