"""Blocks of a captured program: runs of calls between values through which alone the network continues."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from supernets.networks.capture.branches import common_path, layer_of
from supernets.networks.capture.elastic_program import ElasticProgram
from supernets.networks.capture.program import BATCH, Call, state_sources, state_values
from supernets.space.axes import axes_in

_WHOLE = "network"
_NORMS = frozenset(("layer_norm", "group_norm", "instance_norm", "rms_norm"))
"""Norms that are not folded into the layer before them."""


@dataclass(frozen=True, slots=True)
class Block:
    """A run of calls.

    Attributes:
        name: Name of the module that has its parameters, or of the first layer.
        calls: Indices of its calls; those on parameters alone belong to the blocks that read them.
        axes: Names of the axes whose sizes decide what it computes.
        branches: Indices of the branches with calls in it.
    """

    name: str
    calls: tuple[int, ...]
    axes: tuple[str, ...]
    branches: tuple[int, ...]


class Division:
    """The blocks of a captured network, in order; one where no value alone connects a part of it with the rest.

    A block has at least one product of matrices or convolution. Other calls after it belong to it, but norms that are not
    folded belong to the next one.
    """

    def __init__(self, elastic: ElasticProgram) -> None:
        self._elastic = elastic
        self._state = state_values(elastic.program)
        self._worked = frozenset(work.call for work in elastic.work)
        self._closure = state_sources(elastic.program)
        runs = self._join_runs(list(self._runs()))
        names: dict[str, None] = {}
        for run in runs:
            names[_unique_name(self._name(run), names)] = None
        self.blocks = tuple(self._block(name, run) for name, run in zip(names, runs, strict=True))

    def _is_state(self, call: Call) -> bool:
        """Returns whether a call depends on parameters alone."""
        return all(name in self._state for name in call.outputs if name)

    def _runs(self) -> Iterator[list[int]]:
        """The shortest runs of calls with one value between each and the next."""
        program = self._elastic.program
        last: dict[str, float] = {name: i for i, call in enumerate(program.calls) for name in call.reads()}
        last |= dict.fromkeys(program.outputs, math.inf)
        alive = {name for name in program.inputs if name in last}
        run: list[int] = []
        for i, call in enumerate(program.calls):
            if self._is_state(call):
                continue
            run.append(i)
            alive = {name for name in (*alive, *call.outputs) if name and last.get(name, -1) > i}
            if len(alive) == 1 and alive <= set(call.outputs) and self._connects(next(iter(alive))):
                yield run
                run = []
        if run:
            yield run

    def _connects(self, value: str) -> bool:
        """Returns whether a value can be the only input of a block: examples of real numbers, one after another."""
        program, (first, *other_dims) = self._elastic.program, self._elastic.shapes[value]
        floats = program.values[value].dtype == "float32"
        return (
            floats
            and first == BATCH
            and not any(BATCH in axes_in(dim) for dim in other_dims)
            and value not in program.outputs
        )

    def _join_runs(self, runs: Sequence[list[int]]) -> list[list[int]]:
        """Runs of which each has work, and no two neighbours are of one layer."""
        joined_runs, waiting = list[list[int]](), list[int]()
        for run in runs:
            if not self._worked.intersection(run):
                normed = any(self._elastic.program.calls[i].name in _NORMS for i in run)
                if joined_runs and not waiting and not normed:
                    joined_runs[-1] += run
                else:
                    waiting += run
            elif joined_runs and not waiting and self._layer(joined_runs[-1]) == self._layer(run) != "":
                joined_runs[-1] += run
            else:
                joined_runs.append([*waiting, *run])
                waiting = []
        return [*joined_runs[:-1], joined_runs[-1] + waiting] if joined_runs else [waiting]

    def _parameter_sources(self, run: Sequence[int]) -> list[str]:
        """The tensors, and the values that depend on tensors alone, that a run reads directly or through others."""
        calls = self._elastic.program.calls
        return [source for i in run for name in calls[i].reads() for source in self._closure.get(name, ())]

    def _parameters(self, run: Sequence[int]) -> list[str]:
        trainable = self._elastic.program.trainable
        return [name for name in self._parameter_sources(run) if name in trainable]

    def _name(self, run: Sequence[int]) -> str:
        """The path that all parameters of a run have in common, else that of its layers, else that of the first one."""
        layers = self._layers(run)
        paths = [name.rpartition(".")[0] for name in self._parameters(run)]
        return common_path(paths) or common_path(layers) or next(filter(None, (*layers, *paths)), _WHOLE)

    def _layers(self, run: Sequence[int]) -> list[str]:
        """Paths of the layers that multiply matrices or convolve."""
        worked = [i for i in run if i in self._worked]
        return [name.rpartition(".")[0] for name in self._parameters(worked)]

    def _layer(self, run: Sequence[int]) -> str:
        """The place in a container that has all layers of a run; "" if there is none."""
        layers = set(map(layer_of, self._layers(run)))
        return layers.pop() if len(layers) == 1 else ""

    def _block(self, name: str, run: Sequence[int]) -> Block:
        program = self._elastic.program
        values = {value for i in run for value in (*program.calls[i].reads(), *program.calls[i].outputs) if value}
        values.update(self._parameter_sources(run))
        dependent_axes = {axis for value in values for dim in self._elastic.shapes[value] for axis in axes_in(dim)}
        calls = set(run)
        branches = [
            i for i, branch in enumerate(self._elastic.branches) if calls.intersection((*branch.calls, branch.sum))
        ]
        axes = tuple(axis for axis in self._elastic.axes if axis in dependent_axes)
        return Block(name, tuple(run), axes, tuple(branches))

    @cached_property
    def block_by_value(self) -> Mapping[str, str]:
        """The names of the blocks by the values that they compute; those that depend on parameters alone have none."""
        calls = self._elastic.program.calls
        return {name: block.name for block in self.blocks for i in block.calls for name in calls[i].outputs if name}

    @cached_property
    def block_by_call(self) -> NDArray[np.int64]:
        """The index of each call's block, (n_calls,); of a call on parameters alone, the first block that reads its value."""
        program = self._elastic.program
        block_by_call = np.full(len(program.calls), len(self.blocks) - 1, dtype=np.int64)
        for index, block in enumerate(self.blocks):
            block_by_call[list(block.calls)] = index
        consumers = program.consumers()
        for index in reversed(range(len(program.calls))):
            if self._is_state(program.calls[index]):
                users = {user for name in program.calls[index].outputs for user in consumers.get(name, ())}
                block_by_call[index] = min((block_by_call[user] for user in users), default=block_by_call[index])
        return block_by_call

    def variants(
        self, sizes: Mapping[str, NDArray[np.int64]], dropped: Sequence[frozenset[int]]
    ) -> list[NDArray[np.int64]]:
        """Returns the properties that decide each block's computation in n networks, one array (n, d) for each block.

        Args:
            sizes: Sizes of the axes in each network, (n,) by axis.
            dropped: Indices of the branches that each network lacks.
        """
        is_dropped = np.array(
            [[i in indices for i in range(len(self._elastic.branches))] for indices in dropped], dtype=np.int64
        )
        variants_by_block = []
        for block in self.blocks:
            lacking = [is_dropped[:, i] for i in block.branches]
            is_present = np.array([not self._is_absent(block, indices) for indices in dropped], dtype=np.int64)
            # An absent block has one variant: the sizes of its axes do not matter.
            properties = [is_present, *lacking, *(is_present * sizes[axis] for axis in block.axes)]
            variants_by_block.append(np.stack(properties, axis=1))
        return variants_by_block

    def _is_absent(self, block: Block, dropped: frozenset[int]) -> bool:
        dropped_branches = [self._elastic.branches[i] for i in block.branches if i in dropped]
        return set(block.calls) <= {call for branch in dropped_branches for call in (*branch.calls, branch.sum)}


def _unique_name(name: str, used_names: Mapping[str, object]) -> str:
    """The name, with a number where another block has it (as of a module that is called twice)."""
    n = 2
    while (name if n == 2 else f"{name}:{n - 1}") in used_names:
        n += 1
    return name if n == 2 else f"{name}:{n - 1}"
