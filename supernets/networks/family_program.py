"""The programs of a family: its largest network, captured once for each way of calling it, and specialised for each subnet."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from threading import Lock, RLock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from supernets.errors import LoweringError, SpaceError
from supernets.networks.capture.blocks import ProgramBlocks
from supernets.networks.capture.branches import Branch, module_branches, sums, sums_without_branch
from supernets.networks.capture.elastic_program import ElasticProgram, infer_axes
from supernets.networks.capture.program import BATCH, TIED, Call, Program, Ref, needed_calls
from supernets.networks.capture.program_json import program_from_json, program_to_json
from supernets.networks.capture.specialisation import specialised
from supernets.networks.capture.tracing import capture_declared
from supernets.networks.family_checks import (
    check_networks,
    checked_named_dims,
    computes_the_same,
    is_of_plug_in,
    template_of,
)
from supernets.networks.own_operations import NAMESPACE
from supernets.space import Architecture
from supernets.space.axes import Dim, NamedDims
from supernets.space.cost import CostTable, Counts, lies_in

if TYPE_CHECKING:
    from supernets.sharing.base import Family

NO_TENSORS: Mapping[str, Tensor] = MappingProxyType({})
TOKENS_DIM = "tokens"
"""The name of the dimension of tokens in sentences of any length."""
_BATCH_SIZE = 5
"""The batch size of captured inputs: no usual size of a layer."""
_ONLY_LENGTHS = frozenset((f"{NAMESPACE}.token_positions", f"{NAMESPACE}.causal_mask"))
"""Operations that read of their argument ``past`` only how many tokens it has."""


@dataclass(frozen=True, slots=True)
class ViewInput:
    """An input of a view: a tensor like it, and the names of its dimensions, as of `Program.input_dims`."""

    example: Tensor
    dims: tuple[str, ...]


@dataclass(frozen=True)
class View:
    """A way of calling a network, which has a program of its own.

    Attributes:
        name: Name of the view in checkpoints.
        wrapped: the module that is called, of a network.
        inputs: Function that makes the inputs of that module of the largest network.
        prefix: Prefix of the network's tensors in that module.
    """

    name: str
    wrapped: Callable[[Any], nn.Module]
    inputs: Callable[[Any], Sequence[ViewInput]]
    prefix: str = "network."


class FamilyProgram:
    """A view of all networks of a family, as one program whose calls follow the sizes of the family's axes.

    Attributes:
        elastic: Program of the largest network, with its axes.
        exact: True if the specialised programs compute what the networks do; else each network is traced by itself.

    Args:
        prefix: Prefix of the network's tensors and modules in the program.
        constants: tensors that the forward makes from nothing, by name.
    """

    def __init__(
        self, family: Family, elastic: ElasticProgram, prefix: str = "", constants: Mapping[str, Tensor] = NO_TENSORS
    ) -> None:
        self.elastic, self.prefix, self.constants, self._family = elastic, prefix, dict(constants), family
        self.exact = True
        self._branches: dict[str, list[Branch]] = {}

    def branches(self, dropped: frozenset[str]) -> list[Branch]:
        """The branches that a network lacks, one for each call of its modules; single tensors have none."""
        for name in dropped - self._branches.keys():
            path = self.prefix + name
            self._branches[name] = module_branches(self.elastic.program, path, self.elastic.shapes)
        branches = [branch for name in sorted(dropped) for branch in self._branches[name]]
        return [*branches, *sums_without_branch(self.elastic.program, self._sums, branches)]

    @cached_property
    def _sums(self) -> list[Branch]:
        return sums(self.elastic.program)

    def specialised(self, architecture: Architecture) -> Program:
        """The program of one network."""
        branches = self.branches(self._family.dropped(architecture))
        elastic = _with_lengths_of_others(self.elastic, branches) if branches else self.elastic
        return _without_twins(specialised(elastic, self._family.sizes(architecture), branches))

    @cached_property
    def block_of_call(self) -> list[int]:
        """The index of the block of each call of the largest network; -1 for calls in none."""
        return _blocks_of_calls(self.elastic.program, self._family.blocks, self.prefix)

    @cached_property
    def block_of_value(self) -> dict[str, str]:
        """The names of blocks by the values that they compute."""
        return blocks_by_value(self.elastic.program, self._family.blocks, self.prefix)

    @cached_property
    def program_blocks(self) -> ProgramBlocks:
        """The blocks of networks, with costs for the family's example.

        Raises:
            SpaceError: a parameter lies in no block.
        """
        blocks = self._family.blocks
        of_tensor = {name: _index_of_block(name, blocks) for name in self.elastic.program.trainable}
        if outside := [name for name, block in of_tensor.items() if block < 0]:
            text = f"the tensor {outside[0]} lies in none of the blocks {', '.join(blocks)}"
            raise SpaceError(text, code="family.inconsistent")
        example, (dims, *_) = self._family.example(), self.elastic.program.input_dims
        lengths = {name: size for name, size in zip(dims, example.shape, strict=True) if name}
        return ProgramBlocks(self.elastic, self.branches, blocks, self.block_of_call, of_tensor, lengths)

    def block_variants(self, sizes: Mapping[str, Counts], dropped: Sequence[frozenset[str]]) -> list[Counts]:
        """Returns the properties that decide each block's computation, see `ProgramBlocks.variants`."""
        return self.program_blocks.variants(sizes, dropped)


def _index_of_block(path: str, blocks: Sequence[str]) -> int:
    """The first block that a module is or lies in; -1 for none."""
    return next((i for i, name in enumerate(blocks) if lies_in(path, [name])), -1)


def _blocks_of_calls(program: Program, blocks: Sequence[str], prefix: str) -> list[int]:
    return [_index_of_block(call.module.removeprefix(prefix), blocks) for call in program.calls]


def blocks_by_value(program: Program, blocks: Sequence[str], prefix: str = "") -> dict[str, str]:
    """The names of blocks, which are paths of modules, by the values that they compute.

    Raises:
        LoweringError: a block lies in another one.
    """
    for block in blocks:
        if outer := [name for name in blocks if name != block and lies_in(block, [name])]:
            raise LoweringError(f"blocks {block} and {outer[0]} overlap; name one of them", code="export.invalid-block")
    return named_blocks(program, blocks, _blocks_of_calls(program, blocks, prefix))


def named_blocks(program: Program, blocks: Sequence[str], of_call: Sequence[int]) -> dict[str, str]:
    """The names of blocks by the values that they compute.

    Args:
        of_call: the index of each call's block; -1 for calls in none.
    """
    calls = zip(program.calls, of_call, strict=True)
    return {name: blocks[block] for call, block in calls if block >= 0 for name in call.outputs if name}


def _with_lengths_of_others(elastic: ElasticProgram, dropped: Sequence[Branch]) -> ElasticProgram:
    """The program whose operations that read the length of a cache read it of one that no dropped call alone reads."""
    program, dropped_calls = elastic.program, {index for branch in dropped for index in branch.calls}
    input_dims = dict(zip(program.inputs, program.input_dims, strict=False))  # none of a user's network
    caches = [name for name, dims in input_dims.items() if TIED in dims]
    remaining = [i for i, call in enumerate(program.calls) if i not in dropped_calls and call.name not in _ONLY_LENGTHS]
    read_names = frozenset[str]().union(*(elastic.reads[i] for i in remaining))
    left = [name for name in caches if name in read_names]
    if left[:1] == caches[:1]:  # nobody reads lengths of others than the first
        return elastic

    def moved(call: Call) -> Call:
        if call.name not in _ONLY_LENGTHS or call.arguments["past"] is None:
            return call
        return replace(call, arguments={**call.arguments, "past": Ref(left[0])})

    return replace(elastic, program=replace(program, calls=tuple(map(moved, program.calls))))


def _without_twins(program: Program) -> Program:
    """The program with equal calls once, so that of an encoder's layers that are left out, one output remains.

    Only programs that read a list of layers have them.
    """
    lists = f"{NAMESPACE}.cross_memory"
    if not any(call.name == lists for call in program.calls):
        return program
    renamed: dict[str, str] = {}
    calls: dict[object, Call] = {}

    for call in program.calls:
        arguments = dict(call.reading(renamed).arguments)
        if call.name == lists and isinstance(layers := arguments["encoded"], tuple):
            n = program.values[arguments["attended"].name].shape[0]  # type: ignore[union-attr]
            arguments["encoded"] = tuple(dict.fromkeys(layers))[-n:]
        key = (call.op, tuple(arguments.items()))
        if key in calls:
            renamed.update(zip(call.outputs, calls[key].outputs, strict=True))
        else:
            calls[key] = replace(call, arguments=arguments)
    return replace(program, calls=needed_calls(tuple(calls.values()), program.outputs))


def _whole_inputs(family: Family) -> list[ViewInput]:
    example = family.example(_BATCH_SIZE)
    dims = (BATCH, TOKENS_DIM) if example.dtype == torch.int64 else (BATCH, *("" for _ in example.shape[1:]))
    return [ViewInput(example, dims)]


_CAPTURES = RLock()
"""Held while a program is captured or taken from a checkpoint; torch captures one network at a time."""


class Programs:
    """The programs of a family by view, each captured when it is first needed, unless a checkpoint has kept it."""

    def __init__(self, family: Family) -> None:
        self._family, self._by_view = family, dict[str, FamilyProgram]()
        self._dims: Mapping[str, tuple[Dim, ...]] | None = None
        self._stored: Mapping[str, Program] = {}
        self._fingerprint = ""

    def of(self, view: View | None = None) -> FamilyProgram:
        """The program of a view; by default that of the networks as they are.

        Raises:
            SpaceError: the family's dims do not fit what its network computes.
        """
        name = "" if view is None else view.name
        if name not in self._by_view:
            with _CAPTURES:
                if name not in self._by_view:
                    self._by_view[name] = self._captured(view)
        return self._by_view[name]

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        """The dimensions of every tensor of the largest network; of those that its forward does not read, their sizes."""
        if self._dims is None:
            inferred = self.of().elastic.dims
            state = outline(self._family).state_dict()
            self._dims = {name: inferred.get(name, tuple(tensor.shape)) for name, tensor in state.items()}
        return self._dims

    def costs(self, sizes: Mapping[str, Counts], dropped: Sequence[frozenset[str]]) -> CostTable:
        """The costs of n networks for one example, see `ProgramBlocks.costs`."""
        return self.of().program_blocks.costs(sizes, dropped)

    def to_json(self) -> dict[str, Any]:
        """The programs of all views as plain data, for checkpoints; `restore` reads it."""
        views = (None, *self._family.views())
        sources = {"" if view is None else view.name: self.of(view) for view in views}
        return {
            "fingerprint": _fingerprint(outline(self._family)),
            "programs": {
                name: program_to_json(source.elastic.source)
                for name, source in sources.items()
                if source.exact and not source.constants  # whose values are captured
            },
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Takes programs from data of `to_json` in place of captures, as long as the code of the networks is the same.

        Raises:
            CaptureError: a program is malformed.
            KeyError, TypeError, AttributeError: `to_json` has not written the data.
        """
        programs = {str(name): program_from_json(program) for name, program in data.get("programs", {}).items()}
        with _CAPTURES:
            self._stored, self._fingerprint = programs, str(data["fingerprint"]) if programs else ""

    def _captured(self, view: View | None) -> FamilyProgram:
        if view is not None:
            self.of()  # whether the stored programs are those of the family's code
        family, network = self._family, outline(self._family)
        stored = self._stored.get("" if view is None else view.name)
        if stored is not None and self._fingerprint == _fingerprint(network):
            try:
                source = self._read(view, network, stored)
                if source.exact:
                    return source
            except SpaceError:
                if not is_of_plug_in(family):
                    raise
            self._stored = {}
        program, constants = _captured(family, view, network)
        if any(tensor.is_meta for tensor in constants.values()):
            with torch.random.fork_rng(devices=[]):
                program, constants = _captured(family, view, template_of(family).eval())
        return self._read(view, network, program, constants)

    def _read(
        self, view: View | None, network: nn.Module, program: Program, constants: Mapping[str, Tensor] = NO_TENSORS
    ) -> FamilyProgram:
        """A captured program of a view with its axes."""
        family, prefix = self._family, "" if view is None else view.prefix
        declared: Mapping[str, NamedDims] = checked_named_dims(family, network) if view is None else family.dims()
        if view is None and is_of_plug_in(family):
            check_networks(family, network)
        named_dims = {prefix + name: dims for name, dims in declared.items()}
        source = FamilyProgram(family, infer_axes(program, named_dims, family.axes), prefix, constants)
        if view is None and is_of_plug_in(family):
            with torch.device("cpu"):  # not on `meta`, where the caller may be
                source.exact = computes_the_same(family, source)
        return source


def _captured(family: Family, view: View | None, network: nn.Module) -> tuple[Program, dict[str, Tensor]]:
    """A view of a network as a program, and the tensors in it that are none of the network's."""
    module = network if view is None else view.wrapped(network).eval()
    with torch.device("cpu"):  # not on `meta`, where the caller may be
        inputs = _whole_inputs(family) if view is None else view.inputs(network)
    device = next(iter(network.parameters())).device
    on_meta = device.type == "meta"
    # Computing takes less time than torch's import of what it knows shapes by.
    with_zeros = on_meta and view is None and not is_of_plug_in(family) and _is_small(network, inputs[0].example)
    device = torch.device("cpu") if with_zeros else device
    with device:  # of what the forward makes, too
        examples, dims = [x.example.to(device) for x in inputs], [x.dims for x in inputs]
        captured = capture_declared(module, examples, dims, with_zeros=with_zeros)
    state = module.state_dict(keep_vars=True)
    return captured.program, {name: tensor for name, tensor in captured.tensors.items() if name not in state}


_SMALL_NETWORK, _SMALL_INPUT = 2_000_000, 100_000
"""Numbers of weights and of numbers in inputs of which a forward takes milliseconds."""


def _is_small(network: nn.Module, example: Tensor) -> bool:
    """Returns whether a network on `meta` computes quickly on the CPU, with other tensors in place of all that it has there."""
    weights = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    has_others = any(isinstance(value, Tensor) for module in network.modules() for value in vars(module).values())
    return weights <= _SMALL_NETWORK and example.numel() <= _SMALL_INPUT and not has_others


@cache
def _own_code() -> bytes:
    """A hash of this package's code: networks call some of it, and their programs are read by the rest."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).digest()


def _fingerprint(network: nn.Module) -> str:
    """A hash of the modules of a network and of their code, in 16 hexadecimal digits; random where code has no file."""
    digest = hashlib.sha256(f"{torch.__version__} {network!r}".encode() + _own_code())
    for name in sorted({type(module).__module__ for module in network.modules()}):
        if not name.startswith("torch."):
            file = getattr(sys.modules.get(name), "__file__", None)
            digest.update(Path(file).read_bytes() if file else os.urandom(16))
    return digest.hexdigest()[:16]


def outline(family: Family) -> nn.Module:
    """The largest network, as of `without_weights`, in evaluation mode."""
    return without_weights(partial(template_of, family)).eval()


T = TypeVar("T")


def without_weights(make: Callable[[], T]) -> T:
    """The result of a function of networks, on the device `meta`, where it costs no memory, if it can do without values."""
    try:
        with torch.device("meta"):
            return make()
    except (NotImplementedError, RuntimeError):  # torch refuses to read a value there
        with torch.random.fork_rng(devices=[]):  # initial weights must not advance the global generator
            return make()


_PROGRAMS: dict[tuple[type, str], Programs] = {}
_LOCK = Lock()
_MOST_FAMILIES = 64


def programs_of(family: Family) -> Programs:
    """The programs of a family; equal families have the same ones in a process."""
    key = type(family), json.dumps(family.to_json(), sort_keys=True)
    with _LOCK:
        programs = _PROGRAMS.pop(key, None) or Programs(family)
        while len(_PROGRAMS) >= _MOST_FAMILIES:
            _PROGRAMS.pop(next(iter(_PROGRAMS)))  # the least recently used
        _PROGRAMS[key] = programs
        return programs
