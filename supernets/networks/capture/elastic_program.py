"""A captured network with its axes: what is elastic, what stays fixed and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from supernets.errors import SpaceError
from supernets.networks.capture.branches import Branch, Unit, depth_units, residual_branches
from supernets.networks.capture.dimensions import Dimension, MismatchError, find, singles
from supernets.networks.capture.inference import Inference, SymbolicArgument
from supernets.networks.capture.program import Argument, Call, Program, Size
from supernets.networks.operations import RULES, WORK
from supernets.space.axes import Axes, Axis, Concat, Derived, Dim, NamedDims, axes_in

_STORED = frozenset(("linear", "addmm", "subnet_nas.mixed_experts", "subnet_nas.cross_memory"))
"""Beside convolutions, the operations whose outputs are counted among the activations."""
_SPLITS = frozenset(("split", "chunk", "tensor_split", "split_with_sizes"))


@dataclass(frozen=True, slots=True)
class Work:
    """The multiply-accumulates of a call.

    Attributes:
        call: its index.
        products: dimensions whose product they are, for the whole batch.
        outputs: dimensions of its output.
        stored: True if the output is counted among the activations, as those of convolutions and linear layers are.
    """

    call: int
    products: tuple[Dim, ...]
    outputs: tuple[Dim, ...]
    stored: bool = False


@dataclass(frozen=True)
class ElasticProgram:
    """A program whose calls follow the sizes of its axes.

    Attributes:
        source: the captured program.
        program: the same with sizes in arguments that are `Size`.
        axes: the elastic axes by name.
        shapes: the dimensions of every value.
        work: multiply-accumulates of calls.
        fixed: reasons why dimensions of parameters stay as they are, with the tensors that have them.
        unknown: operations without a rule, with the number of their calls.
        lengths: Sizes that only inputs decide, in the captured forward, by name; the batch is one of them.
    """

    source: Program
    program: Program
    axes: Mapping[str, Axis]
    shapes: Mapping[str, tuple[Dim, ...]]
    branches: tuple[Branch, ...]
    units: tuple[Unit, ...]
    work: tuple[Work, ...]
    fixed: Mapping[str, tuple[str, ...]]
    unknown: Mapping[str, int]
    lengths: Mapping[str, int]

    @cached_property
    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        """The dimensions of every tensor."""
        return {name: self.shapes[name] for name in self.source.tensors}

    @cached_property
    def reads(self) -> tuple[frozenset[str], ...]:
        """The names of the values that each call reads."""
        return tuple(frozenset(call.reads()) for call in self.program.calls)

    @cached_property
    def sized_calls(self) -> frozenset[int]:
        """Indices of the calls with arguments that follow the sizes of axes."""
        return frozenset(i for i, call in enumerate(self.program.calls) if any(True for _ in call.sizes()))

    @cached_property
    def sized_values(self) -> frozenset[str]:
        """The values whose shapes follow the sizes of axes."""
        return frozenset(
            name for name, dims in self.shapes.items() if any(axes_in(dim) - self.lengths.keys() for dim in dims)
        )

    @cached_property
    def dynamic_dims(self) -> Mapping[str, Mapping[int, Dim]]:
        """The dimensions that depend on sizes that only inputs decide, by value and position."""
        dynamic = {
            name: {i: dim for i, dim in enumerate(dims) if not axes_in(dim).isdisjoint(self.lengths)}
            for name, dims in self.shapes.items()
        }
        return {name: dims for name, dims in dynamic.items() if dims}

    @property
    def full_sizes(self) -> dict[str, int]:
        """The axis sizes of the largest network."""
        return {name: axis.size for name, axis in self.axes.items()}


NOTHING_DECLARED: Mapping[str, NamedDims] = MappingProxyType({})
NO_AXES: Axes = MappingProxyType({})


def infer_axes(
    program: Program, declared: Mapping[str, NamedDims] = NOTHING_DECLARED, axes: Axes = NO_AXES
) -> ElasticProgram:
    """Infers the axes of a captured program.

    Args:
        declared: dimensions of some tensors, where a family states them; then the axes are these, and all others are fixed.
        axes: Axes in `declared`, by name.

    Raises:
        SpaceError: the forward makes two of the declared axes one, divides one, or needs one of its size.
    """
    try:
        inference = Inference(program, declared, axes)
    except MismatchError as error:
        raise SpaceError(f"the family's dims do not fit its network: {error}", code="family.inconsistent") from None
    inference.run(RULES)
    if not declared:
        _fix_untrained(inference)
    names = _Names(inference)
    calls = tuple(
        _with_symbolic_sizes(call, inference.symbolic.get(i, {}), names) for i, call in enumerate(program.calls)
    )
    branches = [] if declared else residual_branches(program)
    return ElasticProgram(
        source=program,
        program=replace(program, calls=calls),
        axes=names.axes,
        shapes={name: tuple(map(names.dim, dimensions)) for name, dimensions in inference.dims.items()},
        branches=tuple(branches),
        units=tuple(depth_units(program, branches)),
        work=tuple(_work(inference, names)),
        fixed=_fixed_sizes(inference),
        unknown=dict(inference.unknown),
        lengths={name: length.size for name, length in inference.lengths.items()},
    )


def _work(inference: Inference, names: _Names) -> Iterator[Work]:
    """The work of convolutions, linear layers, products of matrices and attention that read the inputs."""
    for index, call in enumerate(inference.program.calls):
        if call.outputs[0] in inference.program.state_values or call.name not in WORK:
            continue
        outputs = tuple(map(names.dim, inference.dims[call.outputs[0]]))
        for products in WORK[call.name](inference, call):
            counted_outputs = outputs
            if isinstance(products, tuple):
                products, counted = products
                counted_outputs = tuple(map(names.dim, counted))
            stored = call.name in _STORED or call.name.startswith("conv")
            yield Work(index, tuple(map(names.dim, products)), counted_outputs, stored)


def _fix_untrained(inference: Inference) -> None:
    """Fixes the axes that no parameter has."""
    trained: set[int] = set()
    for name in inference.program.trainable:
        trained.update(id(single) for dimension in inference.dims[name] for single in singles(dimension))
    for dims in inference.dims.values():
        for dimension in dims:
            for single in singles(dimension):
                if id(single) not in trained and not single.fixed:
                    single.fixed = "no parameter has it"


class _Names:
    """Names of the elastic axes, and the dimensions in terms of them."""

    def __init__(self, inference: Inference) -> None:
        self._names: dict[int, str] = {}
        self.axes: dict[str, Axis] = {}
        if inference.declared:
            self._declare(inference)
            return
        for wanted in (0, None):  # an axis is named after a layer's outputs where there is one
            for name in inference.program.tensors:
                if name not in inference.program.trainable:
                    continue
                for position, dimension in enumerate(inference.dims[name]):
                    if wanted is None or position == wanted:
                        self._add(name, position, dimension)

    def _add(self, tensor: str, position: int, dimension: Dimension) -> None:
        module = tensor.rpartition(".")[0] or tensor
        base = f"{module}.{'out' if position == 0 else f'in{position}'}"
        for single in singles(dimension):
            if single.fixed or id(single) in self._names:
                continue
            name, n = base, 1
            while name in self.axes:
                n += 1
                name = f"{base}{n}"
            self._names[id(single)] = name
            self.axes[name] = Axis(name, single.size)

    def _declare(self, inference: Inference) -> None:
        """Gives dimensions the names that the family has for them."""
        for name in inference.declared_axes:
            root = find(inference.axes[name])
            if (earlier := self._names.setdefault(id(root), name)) != name:
                problem = f"its forward makes the axes {earlier} and {name} one"
            elif reason := next((part.fixed for part in singles(root) if part.fixed and part.size > 1), ""):
                problem = (
                    f"its forward needs the axis {name} of its full size: {reason}; change that, or leave the axis out"
                )
            else:
                continue
            raise SpaceError(f"the family's dims do not fit its network: {problem}", code="family.inconsistent")
        self.axes = dict(inference.declared_axes)
        for name, axis in inference.axes.items():
            if find(axis).kind != "single" and any(
                id(part) not in self._names and not part.fixed for part in singles(axis)
            ):
                problem = f"its forward divides the axis {name}; declare its parts"
                raise SpaceError(f"the family's dims do not fit its network: {problem}", code="family.inconsistent")

    def dim(self, dimension: Dimension) -> Dim:
        """A dimension as an expression over the axes."""
        root = find(dimension)
        if name := root.dynamic or self._names.get(id(root), ""):
            return name
        if root.kind == "derived":
            part = self.dim(root.parts[0])
            return root.size if isinstance(part, int) else Derived(part, root.offset, root.stride)
        if root.kind == "single":
            return root.size
        parts = tuple(self.dim(part) for part in root.parts)
        if all(isinstance(part, int) for part in parts):
            return root.size
        if root.kind == "concatenation":
            return Concat(parts)
        return tuple(factor for part in parts for factor in (part if isinstance(part, tuple) else (part,)))


def _with_symbolic_sizes(call: Call, symbolic: Mapping[str, SymbolicArgument], names: _Names) -> Call:
    """The call with sizes that follow the axes."""
    if not symbolic:
        return call
    sizes = {name: _sizes(value, names) for name, value in symbolic.items()}
    if call.name in _SPLITS:
        arguments: dict[str, Argument] = {"self": call.arguments["self"], **sizes, "dim": call.arguments["dim"]}
        return replace(call, op="aten.split_with_sizes.default", arguments=arguments)
    return replace(call, arguments={**call.arguments, **sizes})


def _sizes(value: SymbolicArgument, names: _Names) -> Argument:
    if isinstance(value, tuple):
        return tuple(_sizes(part, names) for part in value)
    if isinstance(value, int):
        return value
    dim = names.dim(value)
    return dim if isinstance(dim, int) else Size(dim)


def _fixed_sizes(inference: Inference) -> dict[str, tuple[str, ...]]:
    """Fixed sizes above 1 of parameters by reason."""
    by_reason: dict[str, dict[str, None]] = {}
    for name in inference.program.tensors:
        if name not in inference.program.trainable:
            continue
        for dimension in inference.dims[name]:
            for single in singles(dimension):
                if single.fixed and single.size > 1:
                    by_reason.setdefault(single.fixed, {})[name] = None
    return {reason: tuple(names) for reason, names in by_reason.items()}
