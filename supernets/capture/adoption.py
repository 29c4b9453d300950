"""A captured network with its axes: what is elastic, what stays fixed and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from supernets.axes import Axis, Concat, Derived, Dim
from supernets.capture.branches import Branch, Unit, depth_units, residual_branches
from supernets.capture.dimensions import Dimension, find, singles
from supernets.capture.inference import Inference, SymbolicArgument
from supernets.capture.operations import RULES, WORK
from supernets.capture.program import BATCH, Argument, Call, Program, Size, is_constant, state_values

_SPLITS = frozenset(("split", "chunk", "tensor_split", "split_with_sizes"))


@dataclass(frozen=True, slots=True)
class Work:
    """The multiply-accumulates of a call.

    Attributes:
        call: its index.
        products: dimensions whose product they are, for the whole batch.
        outputs: dimensions of its output.
    """

    call: int
    products: tuple[Dim, ...]
    outputs: tuple[Dim, ...]


@dataclass(frozen=True)
class Adopted:
    """A program whose calls follow the sizes of its axes.

    Attributes:
        program: the captured one; sizes in its arguments are `Size`.
        axes: the elastic axes by name.
        dims: of every tensor.
        shapes: the dimensions of every value.
        streams: for each branch, the dimensions of the value that it is added to.
        work: multiply-accumulates of calls.
        fixed: reasons why dimensions of parameters stay as they are, with the tensors that have them.
        unknown: operations without a rule, with the number of their calls.
    """

    program: Program
    axes: Mapping[str, Axis]
    dims: Mapping[str, tuple[Dim, ...]]
    shapes: Mapping[str, tuple[Dim, ...]]
    branches: tuple[Branch, ...]
    units: tuple[Unit, ...]
    streams: tuple[tuple[Dim, ...], ...]
    work: tuple[Work, ...]
    fixed: Mapping[str, tuple[str, ...]]
    unknown: Mapping[str, int]

    @property
    def full_sizes(self) -> dict[str, int]:
        """The axis sizes of the largest network."""
        return {name: axis.size for name, axis in self.axes.items()}


def adopt(program: Program) -> Adopted:
    """Infers the axes of a captured program."""
    inference = Inference(program)
    inference.run(RULES)
    _fix_untrained(inference)
    names = _Names(inference)
    dims = {name: tuple(map(names.dim, inference.dims[name])) for name in program.tensors}
    calls = tuple(_followed(call, inference.symbolic.get(i, {}), names) for i, call in enumerate(program.calls))
    branches = residual_branches(program)
    return Adopted(
        program=replace(program, calls=calls),
        axes=names.axes,
        dims=dims,
        shapes={name: tuple(map(names.dim, own)) for name, own in inference.dims.items()},
        branches=tuple(branches),
        units=tuple(depth_units(program, branches)),
        streams=tuple(tuple(map(names.dim, inference.dims[branch.skip])) for branch in branches),
        work=tuple(_work(inference, names)),
        fixed=_kept(inference),
        unknown=dict(inference.unknown),
    )


def _work(inference: Inference, names: _Names) -> Iterator[Work]:
    """The work of convolutions, linear layers, products of matrices and attention that read the inputs."""
    state = state_values(inference.program)
    for index, call in enumerate(inference.program.calls):
        if call.outputs[0] in state or call.name not in WORK:
            continue
        outputs = tuple(map(names.dim, inference.dims[call.outputs[0]]))
        for products in WORK[call.name](inference, call):
            own = outputs
            if isinstance(products, tuple):
                products, counted = products
                own = tuple(map(names.dim, counted))
            yield Work(index, tuple(map(names.dim, products)), own)


def _fix_untrained(inference: Inference) -> None:
    """Fixes the axes that no parameter has."""
    trained: set[int] = set()
    for name in inference.program.tensors:
        if name not in inference.program.trainable and (is_constant(name) or not inference.program.declared):
            continue
        trained.update(id(own) for dimension in inference.dims[name] for own in singles(dimension))
    for dims in inference.dims.values():
        for dimension in dims:
            for own in singles(dimension):
                if id(own) not in trained and not own.fixed:
                    own.fixed = "no parameter has it"


class _Names:
    """Names of the elastic axes, and the dimensions in terms of them."""

    def __init__(self, inference: Inference) -> None:
        self._batch = inference.batch
        self._centred = {id(find(own)) for own in inference.centred}
        self._inference = inference
        self._names: dict[int, str] = {}
        self.axes: dict[str, Axis] = {}
        for wanted in (0, None):  # an axis is named after a layer's outputs where there is one
            for name in inference.program.tensors:
                if name not in inference.program.trainable and (
                    wanted == 0 or is_constant(name) or not inference.program.declared
                ):
                    continue
                for position, dimension in enumerate(inference.dims[name]):
                    if wanted is None or position == wanted:
                        self._add(name, position, dimension)

    def _add(self, tensor: str, position: int, dimension: Dimension) -> None:
        module = tensor.rpartition(".")[0] or tensor
        base = f"{module}.{'out' if position == 0 else f'in{position}'}"
        for own in singles(dimension):
            if own.fixed or id(own) in self._names:
                continue
            name, n = base, 1
            while name in self.axes:
                n += 1
                name = f"{base}{n}"
            self._names[id(own)] = name
            self.axes[name] = Axis(name, own.size, "centre" if id(own) in self._centred else "prefix")

    def dim(self, dimension: Dimension) -> Dim:
        """A dimension as an expression over the axes."""
        root = find(dimension)
        if root is find(self._batch):
            return BATCH
        if root.kind == "derived":
            part = self.dim(root.parts[0])
            return root.size if isinstance(part, int) else Derived(part, root.offset, root.stride)
        if root.kind == "single" and root.fixed.startswith("the batch:"):
            return root.fixed.partition(":")[2]
        if root.kind == "single":
            return root.size if root.fixed else self._names[id(root)]
        parts = tuple(self.dim(part) for part in root.parts)
        if all(isinstance(part, int) for part in parts):
            return root.size
        return parts if root.kind == "product" else Concat(parts)


def _followed(call: Call, symbolic: Mapping[str, SymbolicArgument], names: _Names) -> Call:
    """The call with sizes that follow the axes."""
    if not symbolic:
        return call
    given = {name: _sizes(value, names) for name, value in symbolic.items()}
    if call.name in _SPLITS:
        arguments: dict[str, Argument] = {"self": call.arguments["self"], **given, "dim": call.arguments["dim"]}
        return replace(call, op="aten.split_with_sizes.default", arguments=arguments)
    return replace(call, arguments={**call.arguments, **given})


def _sizes(value: SymbolicArgument, names: _Names) -> Argument:
    if isinstance(value, tuple):
        return tuple(_sizes(part, names) for part in value)
    if isinstance(value, int):
        return value
    dim = names.dim(value)
    return dim if isinstance(dim, int) else Size(dim)


def _kept(inference: Inference) -> dict[str, tuple[str, ...]]:
    """Fixed sizes above 1 of parameters by reason."""
    found: dict[str, dict[str, None]] = {}
    for name in inference.program.tensors:
        if name not in inference.program.trainable:
            continue
        for dimension in inference.dims[name]:
            for own in singles(dimension):
                if own.fixed and own.size > 1:
                    found.setdefault(own.fixed, {})[name] = None
    return {reason: tuple(names) for reason, names in found.items()}
