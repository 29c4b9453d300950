"""Networks as programs with their tensors: of any module, and of the modules that supernets extract."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from types import FunctionType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from supernets.errors import CaptureError, LoweringError
from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.network import PlainNetwork
from supernets.networks.capture.program import BATCH, Program, is_constant
from supernets.networks.capture.specialisation import specialised
from supernets.networks.capture.tracing import capture_declared
from supernets.networks.family_program import TOKENS_DIM, Programs, View, blocks_by_value
from supernets.networks.live_subnets import forward_problem, tensors_in
from supernets.networks.lowering import lowered, lowered_blocks
from supernets.networks.module_layout import Layout, layout_of
from supernets.networks.onnx_graph.block_division import Piece, with_transposed_weights
from supernets.networks.onnx_graph.ir import INPUT, Shape
from supernets.networks.onnx_graph.serialise import serialise
from supernets.space import Architecture

_dynamic = functools.partial(LoweringError, code="export.dynamic-dimension")
_ORIGIN = "_network_origin"
"""The attribute of an extracted module that tells its programs."""


class BlockInput(NamedTuple):
    """An input of a block.

    Attributes:
        name: Name of the input in the block's model.
        shape: Shape of one example, without the batch; `LENGTH` stands for the number of tokens.
        integer: True if it is the network's input of token ids; else it is float32.
    """

    name: str
    shape: Shape
    integer: bool = False


@dataclass(frozen=True, slots=True)
class BlockModel:
    """A block of a network as a separate ONNX model.

    Attributes:
        name: Name of the block's module.
        key: equal for blocks with the same operations on the same shapes, anywhere in a network.
        model: serialised ONNX from its inputs to `OUTPUT`, with a dynamic batch.
        inputs: Inputs in the order of reading. The first, named `INPUT`, is the output of the previous block; others are
            shared by several blocks (a mask).
    """

    name: str
    key: str
    model: bytes = field(repr=False)
    inputs: tuple[BlockInput, ...]


@dataclass(frozen=True)
class Network:
    """The program of one network, with its tensors.

    Attributes:
        tensors: at least those of the program, by name.
        blocks: the names of its blocks by the values that they compute.
    """

    program: Program
    tensors: Mapping[str, Tensor] = field(repr=False)
    blocks: Mapping[str, str] = field(default_factory=dict, repr=False)

    def onnx(self) -> bytes:
        """A serialised ONNX model of one input and one output, with a dynamic batch; batch norms are folded.

        Raises:
            LoweringError: an operation has no rule; the message names it. Or it has several inputs or outputs.
        """
        if len(self.program.inputs) != 1 or len(self.program.outputs) != 1:
            raise LoweringError(
                f"the network has {len(self.program.inputs)} inputs and {len(self.program.outputs)} outputs; "
                "expected one of each",
                code="export.type-mismatch",
            )
        return serialise(lowered(self.program, self.tensors), [INPUT])

    def served_onnx(self, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
        """A serialised ONNX model of several inputs and outputs, with these names, in order.

        Raises:
            LoweringError: as of `onnx`.
        """
        piece = with_transposed_weights(lowered(self.program, self.tensors, inputs))
        return serialise(piece, inputs, outputs)

    def block_models(self, only: Sequence[str] | None = None) -> list[BlockModel]:
        """The blocks, in the order of their calls, without those that compute nothing.

        Operations without parameters that follow a block belong to it.

        Args:
            only: the names whose models to write; None for all.

        Raises:
            LoweringError: as of `onnx`; or a block returns more than one tensor, or is called twice.
        """
        return [_block_model(piece) for piece in self._pieces() if only is None or piece.name in only]

    def block_keys(self) -> dict[str, str]:
        """The keys of `block_models` by block, without the models; raises its errors."""
        return {piece.name: piece.key for piece in self._pieces()}

    def _pieces(self) -> list[Piece]:
        return lowered_blocks(self.program, self.tensors, self.blocks)


def _block_model(piece: Piece) -> BlockModel:
    inputs = tuple(
        BlockInput(f"{INPUT}_{i}" if i else INPUT, value.shape[1:], value.name in piece.integers)
        for i, value in enumerate(piece.inputs)
    )
    return BlockModel(piece.name, piece.key, serialise(piece, [block_input.name for block_input in inputs]), inputs)


@dataclass(frozen=True)
class Origin:
    """The source of an extracted module's program: its family's programs and its architecture.

    Attributes:
        programs: Programs of the family.
        architecture: Architecture of the module.
        view: Way of calling the network; None for its plain forward.
        layout: Modules as they were extracted, see `layout_of`: with others, the program is another one.
    """

    programs: Programs
    architecture: Architecture
    view: View | None
    layout: Layout

    def __deepcopy__(self, memo: object) -> Origin:
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """None: a module that another process or a file gets is traced by itself."""
        return type(None), ()

    def network(self, module: nn.Module) -> Network:
        """The network of the module."""
        source = self.programs.of(self.view)
        return Network(source.specialised(self.architecture), {**tensors_in(module), **source.constants})


def extracted_from(module: nn.Module, programs: Programs, architecture: Architecture) -> nn.Module:
    """The module, which from now on has the programs of its family, if these are exact; until it is changed."""
    if programs.of().exact:
        module.__dict__[_ORIGIN] = Origin(programs, architecture, None, layout_of(module, _ORIGIN))
    return module


def _origin_of(module: nn.Module) -> Origin | None:
    """The origin of an extracted module that is as it was extracted, apart from values of its tensors; None of others."""
    origin = module.__dict__.get(_ORIGIN)
    return origin if isinstance(origin, Origin) and origin.layout == layout_of(module, _ORIGIN) else None


def viewed(module: nn.Module, network: nn.Module, view: View) -> nn.Module:
    """The module that calls an extracted network in another way, with the network's programs."""
    if (origin := _origin_of(network)) is not None:
        module.__dict__[_ORIGIN] = replace(origin, view=view, layout=layout_of(module, _ORIGIN))
    return module


def view_of(network: nn.Module, view: View) -> Network:
    """A view of a network in evaluation mode: of an extracted one by its family's program, of others by tracing it.

    Raises:
        LoweringError: as of `network_of`.
    """
    module = view.wrapped(network).eval()
    _check_ready(module)
    if (origin := _origin_of(network)) is not None:
        return replace(origin, view=view).network(module)
    inputs = view.inputs(network)
    return _traced_for_any_size(
        module, [view_input.example for view_input in inputs], [view_input.dims for view_input in inputs]
    )


def network_of(module: nn.Module, example: Tensor, blocks: Sequence[str] = ()) -> Network:
    """The network of a module in evaluation mode: of an extracted one by its family's program, of others by tracing it.

    Args:
        example: (n, ...) an input, of which only shape and type are read; n is at least 2.
        blocks: the names of modules that are its blocks; of a captured network, whose program has its own, they are ignored.

    Raises:
        LoweringError: the module is in training mode or has hooks, or its forward cannot be traced or computes with the batch
            size.
    """
    _check_ready(module)
    network = _without_tracing(module, tuple(example.shape))
    if network is None:
        has_lengths = example.dtype == torch.int64 and example.ndim == _OF_SENTENCES
        dims = (BATCH, TOKENS_DIM) if has_lengths else (BATCH, *("" for _ in example.shape[1:]))
        network = _traced_for_any_size(module, [example], [dims])
    return (
        network if network.blocks or not blocks else replace(network, blocks=blocks_by_value(network.program, blocks))
    )


_OF_SENTENCES = 2
"""Dimensions of token ids."""


def _takes(program: Program, shape: Shape) -> bool:
    """Returns whether inputs of a shape are those of a program with one input."""
    sizes, dynamic = program.values[program.inputs[0]].shape, program.dynamic.get(program.inputs[0], {0: BATCH})
    return len(sizes) == len(shape) and all(i in dynamic or n == shape[i] for i, n in enumerate(sizes))


def _without_tracing(module: nn.Module, shape: Shape) -> Network | None:
    """The network of a captured module, or of an extracted one for inputs of this shape; None of others."""
    if isinstance(module, PlainNetwork):
        return Network(module.captured_program, module.captured_tensors(), module.captured_blocks)
    if (origin := _origin_of(module)) is None:
        return None
    network = origin.network(module)
    return network if _takes(network.program, shape) else None


def _traced_for_any_size(module: nn.Module, examples: Sequence[Tensor], dims: Sequence[tuple[str, ...]]) -> Network:
    """The network of a module by tracing it with inputs of two sizes, see `_check_same`."""
    network = _traced(module, examples, dims)
    resized = [_of_other_lengths(example, names) for example, names in zip(examples, dims, strict=True)]
    _check_same(network, _traced(module, resized, dims))
    return network


def _traced(module: nn.Module, examples: Sequence[Tensor], dims: Sequence[tuple[str, ...]]) -> Network:
    try:
        captured = capture_declared(module, examples, dims)
    except CaptureError as error:
        raise LoweringError(str(error), code=error.code) from error
    program = captured.program
    if all(name in ("", BATCH) for names in dims for name in names):
        # As programs captured of users' modules, which are simplified when they are lowered.
        program = replace(program, input_dims=())
    elastic = infer_axes(program)
    return Network(specialised(elastic, elastic.full_sizes), captured.tensors)


def _of_other_lengths(example: Tensor, dims: Sequence[str]) -> Tensor:
    """Zeros like an example, with one more in a batch, and sentences that are shorter by a token, but not of one."""
    shape = [
        n + 1 if name == BATCH or (name == TOKENS_DIM and n <= _MIN_TOKENS) else n - (name == TOKENS_DIM)
        for n, name in zip(example.shape, dims, strict=True)
    ]
    return example.new_zeros(shape)


_MIN_TOKENS = 2
"""The smallest length of a traced sentence: dimensions of 1 are broadcast."""


def _check_same(network: Network, retraced: Network) -> None:
    """Raises `LoweringError` unless a module traced with inputs of two sizes is one program, which then fits all sizes."""
    remedy = "use a size that does not depend on the input"
    for first, second in zip_longest(network.program.calls, retraced.program.calls):
        if repr(first) != repr(second):
            call = first or second
            problem = f"{call.op} in {call.module or 'the network'}{call.place and f' (at {call.place})'}"
            raise _dynamic(f"{problem} computes with the number of examples or of tokens; {remedy}")
    for name in network.program.tensors:
        first, second = network.tensors[name], retraced.tensors[name]
        if is_constant(name) and not (first.shape == second.shape and torch.equal(first, second)):
            raise _dynamic(f"the forward makes a tensor of the number of examples or of tokens; {remedy}")


def _check_ready(module: nn.Module) -> None:
    """Raises `LoweringError` for a module whose forward is not what its program computes."""
    for name, child in module.named_modules():
        problem = forward_problem(child)
        if not _called_plainly(type(child)):  # type: ignore[arg-type]  # mypy confuses the hashes of instance and class
            problem = "is compiled or overrides __call__; use a plain forward"
        elif child.training:
            problem = "is in training mode; call eval() first"
        if problem:
            problem = f"{name or 'the network'} ({type(child).__name__}) {problem}"
            raise LoweringError(problem, code="export.module-state")


@functools.cache
def _called_plainly(cls: type[nn.Module]) -> bool:
    """Returns whether calling a module of this class runs its forward, and that is a Python function."""
    # A `__call__` in torch's own classes leads to the forward, or raises (ParameterList).
    bases = [base for base in cls.__mro__ if not base.__module__.startswith("torch.")]
    return isinstance(getattr(cls, "forward", None), FunctionType) and not any(
        "__call__" in vars(base) for base in bases
    )
