"""A user's captured network as a family: its axes and layers become choices."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from supernets.errors import CheckpointError, LoweringError, SpaceError
from supernets.networks.capture.blocks import Division, ProgramBlocks
from supernets.networks.capture.branches import Branch, layer_of
from supernets.networks.capture.elastic_program import ElasticProgram, infer_axes
from supernets.networks.capture.network import ElasticNetwork, PlainNetwork, bookkeeping_names
from supernets.networks.capture.program import Program, Ref, ValueSpec
from supernets.networks.capture.program_json import program_from_json, program_to_json
from supernets.networks.capture.space import CapturedSpace, ChoiceMembers, SpaceOptions
from supernets.networks.capture.specialisation import specialised, without_branches
from supernets.networks.family_program import FamilyProgram, Programs, named_blocks
from supernets.networks.live_subnets import channels_last
from supernets.sharing.base import Family
from supernets.space import Architecture
from supernets.space.axes import Axes, Dim, NamedDims, size_of
from supernets.space.cost import Counts, lies_in

_OF_MAPS = 4
"""Dimensions of outputs that are maps: batch, channels, height, width."""


class CapturedFamily(Family):
    """All networks that the axes and residual branches of a captured program span.

    Args:
        tensors: Tensors of the captured network by name, with which templates begin; None for zeros, where a checkpoint
            follows.
        head: Facts of the head that decodes the network's outputs; None for outputs that are answers.

    Raises:
        SpaceError: nothing in it is elastic.
    """

    name = "captured"

    def __init__(
        self,
        program: Program,
        options: SpaceOptions,
        *,
        tensors: Mapping[str, Tensor] | None = None,
        head: Mapping[str, Any] | None = None,
    ) -> None:
        self.source, self.options, self._head = program, options, head
        self.elastic: ElasticProgram = infer_axes(program)
        self._elastic = CapturedSpace(self.elastic, options)
        self.space = self._elastic.space
        self.axes: Axes = self.elastic.axes
        self._tensors = _zeros(program) if tensors is None else dict(tensors)
        self._names = bookkeeping_names(program)
        self._stated = {f"{self._names[0]}.{i}": (name, 0) for i, name in enumerate(self.axes)}
        division = Division(self.elastic)
        self._division = division if len(division.names) > 1 else None
        self.blocks = layer_names(program) if self._division is None else division.names
        self._unused: dict[frozenset[int], frozenset[str]] = {}
        # Programs that refer to this family would keep its tensors in memory until a garbage collection.
        without_tensors = copy.copy(self)
        without_tensors._tensors = {}
        self.program = CapturedProgram(without_tensors, self.elastic, self._names[1], self._division)
        self._programs = _CapturedPrograms(without_tensors, self.program)

    @property
    def n_outputs(self) -> int:
        """The number of outputs, or of channels of maps; of a detector, the numbers of a location."""
        shape = self.source.values[self.source.outputs[0]].shape
        return shape[1] if len(shape) == _OF_MAPS else shape[-1]

    @property
    def head(self) -> Mapping[str, Any] | None:
        return self._head

    @cached_property
    def matrices(self) -> Mapping[str, tuple[int, int]]:
        """The dimensions of outputs and inputs of the weights in its program; ``(1, 0)`` for transposed convolutions."""
        matrices: dict[str, tuple[int, int]] = {}
        for call in self.source.calls:
            weight = call.arguments.get("weight")
            if isinstance(weight, Ref) and weight.name in self.source.trainable:
                if call.name == "linear" or call.name.startswith("conv_transpose"):
                    matrices[weight.name] = (0, 1) if call.name == "linear" else (1, 0)
                elif call.name.startswith("conv"):
                    matrices[weight.name] = (0, 1)
        return matrices

    @property
    def trained(self) -> bool:
        return True

    def template(self) -> nn.Module:
        with torch.device("cpu"):  # its tensors have values, also where those of others are on the device meta
            return ElasticNetwork(self.elastic, self._tensors)

    def named_dims(self) -> Mapping[str, NamedDims]:
        return self.dims()

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return {**self.elastic.dims, **self._stated}

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        return self._elastic.sizes(architecture)

    def members(self) -> tuple[ChoiceMembers, ...]:
        """Returns the layers and axes that each choice changes, in the order of the space."""
        return self._elastic.members()

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        dropped_branches = self._elastic.dropped(architecture)
        if dropped_branches not in self._unused:
            remainder = without_branches(self.elastic, self._branches(dropped_branches))
            unused = _unused(self.source, remainder.used.intersection(self.source.tensors))
            self._unused[dropped_branches] = unused | {f"{self._names[1]}.{i}" for i in dropped_branches}
        return self._unused[dropped_branches]

    def build(self, architecture: Architecture) -> nn.Module:
        sizes, dropped_branches = self.sizes(architecture), self._elastic.dropped(architecture)
        program = specialised(self.elastic, sizes, self._branches(dropped_branches))
        absent = self.dropped(architecture)
        tensor_names = tuple(name for name in self.source.tensors if not lies_in(name, absent))
        shapes = {name: [int(size_of(dim, sizes)) for dim in self.elastic.dims[name]] for name in tensor_names}
        values = {name: ValueSpec(tuple(shape), self.source.values[name].dtype) for name, shape in shapes.items()}
        program = replace(
            program,
            tensors=tensor_names,
            trainable=self.source.trainable & frozenset(tensor_names),
            values={**program.values, **values},
        )
        blocks = {} if self._division is None else self.program.block_of_value
        return PlainNetwork(program, _zeros(program), sizes, blocks, copied=False, stated=self._names[0])

    def _branches(self, indices: Iterable[int]) -> list[Branch]:
        return [self.elastic.branches[i] for i in indices]

    def example(self, batch_size: int = 1) -> Tensor:
        spec = self.source.values[self.source.inputs[0]]
        token = 1 if self.source.padding == 0 else 0  # a sentence without padding
        return torch.full((batch_size, *spec.shape[1:]), token, dtype=getattr(torch, spec.dtype))

    def programs(self) -> Programs:
        return self._programs

    def standalone(self, tree: nn.Module, architecture: Architecture, weights: Mapping[str, Tensor]) -> nn.Module:
        with torch.device("cpu"):
            network = channels_last(self.build(architecture))
        network.load_state_dict(dict(weights), strict=True)
        return network

    @property
    def divided(self) -> bool:
        """True if one value lies between each block and the next, so that blocks can be measured one by one."""
        return self._division is not None

    def to_json(self) -> dict[str, Any]:
        options = self.options
        return {
            "family": self.name,
            "program": program_to_json(self.source),
            "granularity": options.granularity,
            "widths": list(options.widths),
            "keep": list(options.keep),
            "multiple": options.multiple,
            **({} if self._head is None else {"head": dict(self._head)}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The family that `to_json` wrote.

        Raises:
            CheckpointError: the data describe no such family.
        """
        try:
            options = SpaceOptions(
                granularity=data["granularity"],
                widths=tuple(map(float, data["widths"])),
                keep=tuple(map(str, data["keep"])),
                multiple=int(data["multiple"]),
            )
            return cls(program_from_json(data["program"]), options, head=data.get("head"))
        except (KeyError, TypeError, ValueError, SpaceError) as error:
            raise CheckpointError(f"the description of a captured network is malformed: {error!r}") from None


class _CapturedPrograms(Programs):
    """The one program of a captured network."""

    def __init__(self, family: CapturedFamily, program: CapturedProgram) -> None:
        super().__init__(family)
        self._by_view[""] = program

    def to_json(self) -> dict[str, Any]:
        """Returns an empty mapping: the description of the family has the program."""
        return {}


class CapturedProgram(FamilyProgram):
    """A captured network's program, whose residual branches networks may lack.

    Args:
        layers: Beginning of the names of the branches.
        division: Division into blocks; None where there is one block alone.
    """

    def __init__(self, family: CapturedFamily, elastic: ElasticProgram, layers: str, division: Division | None) -> None:
        super().__init__(family, elastic)
        self._division = division
        self._branch_by_name = {f"{layers}.{i}": branch for i, branch in enumerate(elastic.branches)}

    def branches(self, dropped: frozenset[str]) -> list[Branch]:
        branches = self._branch_by_name
        return [branches[name] for name in sorted(dropped & branches.keys())]

    @cached_property
    def block_of_call(self) -> list[int]:
        if self._division is not None:
            return self._division.block_by_call()
        return [_layer_of(call.module, self._family.blocks) for call in self.elastic.program.calls]

    @cached_property
    def program_blocks(self) -> ProgramBlocks:
        program = self.elastic.program
        if self._division is None:
            return self.layer_costs(self._family.blocks)
        readers = program.consumers()
        of_tensor = {name: min(self.block_of_call[i] for i in readers[name]) for name in program.trainable}
        return ProgramBlocks(self.elastic, self.branches, self._family.blocks, self.block_of_call, of_tensor, {})

    def layer_costs(self, layers: Sequence[str]) -> ProgramBlocks:
        """Costs by modules; what lies in none of them belongs to the last one."""
        program = self.elastic.program
        of_call = [_layer_of(call.module, layers) for call in program.calls]
        of_tensor = {name: _layer_of(name.rpartition(".")[0], layers) for name in program.trainable}
        return ProgramBlocks(self.elastic, self.branches, layers, of_call, of_tensor, {})

    @cached_property
    def block_of_value(self) -> dict[str, str]:
        self._check_divided()
        return named_blocks(self.elastic.program, self._family.blocks, self.block_of_call)

    def block_variants(self, sizes: Mapping[str, Counts], dropped: Sequence[frozenset[str]]) -> list[Counts]:
        self._check_divided()
        return super().block_variants(sizes, dropped)

    def _check_divided(self) -> None:
        if self._division is None:
            raise LoweringError(
                "the network has no blocks with one value between each and the next", code="export.invalid-block"
            )


def _layer_of(path: str, layers: Sequence[str]) -> int:
    return max((i for i, layer in enumerate(layers) if lies_in(path, [layer])), default=len(layers) - 1)


def _zeros(program: Program) -> dict[str, Tensor]:
    """Tensors of zeros of the program's shapes."""
    specs = ((name, program.values[name]) for name in program.tensors)
    return {name: torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for name, spec in specs}


def _unused(program: Program, used: frozenset[str]) -> frozenset[str]:
    """The outermost modules all of whose tensors are unused, and unused tensors of other modules."""
    used_prefixes = {""}
    for name in used:
        path = name.split(".")[:-1]
        used_prefixes.update(".".join(path[:i]) for i in range(1, len(path) + 1))
    unused = set()
    for name in set(program.tensors) - used:
        path = name.split(".")[:-1]
        for i in range(1, len(path) + 1):
            if (prefix := ".".join(path[:i])) not in used_prefixes:
                unused.add(prefix)
                break
        else:
            unused.add(name)
    return frozenset(unused)


def layer_names(program: Program) -> tuple[str, ...]:
    """Layers in containers, and the first parts of other paths, in the order of their tensors."""
    names: dict[str, None] = {}
    for name in program.tensors:
        if name in program.trainable:
            path = name.rpartition(".")[0]
            names[layer_of(path) or path.partition(".")[0]] = None
    return tuple(names)
