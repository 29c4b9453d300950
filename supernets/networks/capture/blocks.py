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
"""That are not folded into the layer before them."""


@dataclass(frozen=True, slots=True)
class Block:
    """A run of calls.

    Attributes:
        name: of the module that has its parameters, or of the first layer.
        calls: their indices; those on parameters alone belong to the blocks that read them.
        axes: whose sizes decide on what it computes.
        branches: indices of the branches with calls in it.
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
        runs = self._joined(list(self._runs()))
        names: dict[str, None] = {}
        for run in runs:
            names[_free(self._name(run), names)] = None
        self.blocks = tuple(self._block(name, run) for name, run in zip(names, runs, strict=True))

    def _of_state(self, call: Call) -> bool:
        """Whether a call depends on parameters alone."""
        return all(name in self._state for name in call.outputs if name)

    def _runs(self) -> Iterator[list[int]]:
        """The shortest runs of calls with one value between each and the next."""
        program = self._elastic.program
        last: dict[str, float] = {name: i for i, call in enumerate(program.calls) for name in call.reads()}
        last |= dict.fromkeys(program.outputs, math.inf)
        alive = {name for name in program.inputs if name in last}
        run: list[int] = []
        for i, call in enumerate(program.calls):
            if self._of_state(call):
                continue
            run.append(i)
            alive = {name for name in (*alive, *call.outputs) if name and last.get(name, -1) > i}
            if len(alive) == 1 and alive <= set(call.outputs) and self._connects(next(iter(alive))):
                yield run
                run = []
        if run:
            yield run

    def _connects(self, value: str) -> bool:
        """Whether a value can be the only input of a block: examples of real numbers, one after another."""
        program, (first, *rest) = self._elastic.program, self._elastic.shapes[value]
        floats = program.values[value].dtype == "float32"
        return (
            floats
            and first == BATCH
            and not any(BATCH in axes_in(dim) for dim in rest)
            and value not in program.outputs
        )

    def _joined(self, runs: Sequence[list[int]]) -> list[list[int]]:
        """Runs of which each has work, and no two neighbours are of one layer."""
        found, waiting = list[list[int]](), list[int]()
        for run in runs:
            if not self._worked.intersection(run):
                normed = any(self._elastic.program.calls[i].name in _NORMS for i in run)
                if found and not waiting and not normed:
                    found[-1] += run
                else:
                    waiting += run
            elif found and not waiting and self._layer(found[-1]) == self._layer(run) != "":
                found[-1] += run
            else:
                found.append([*waiting, *run])
                waiting = []
        return [*found[:-1], found[-1] + waiting] if found else [waiting]

    def _of_parameters(self, run: Sequence[int]) -> list[str]:
        """The tensors, and the values that depend on tensors alone, that a run reads directly or through others."""
        calls = self._elastic.program.calls
        return [own for i in run for name in calls[i].reads() for own in self._closure.get(name, ())]

    def _parameters(self, run: Sequence[int]) -> list[str]:
        trainable = self._elastic.program.trainable
        return [name for name in self._of_parameters(run) if name in trainable]

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
        values = {own for i in run for own in (*program.calls[i].reads(), *program.calls[i].outputs) if own}
        values.update(self._of_parameters(run))
        found = {axis for own in values for dim in self._elastic.shapes[own] for axis in axes_in(dim)}
        calls = set(run)
        branches = [i for i, own in enumerate(self._elastic.branches) if calls.intersection((*own.calls, own.sum))]
        axes = tuple(axis for axis in self._elastic.axes if axis in found)
        return Block(name, tuple(run), axes, tuple(branches))

    @cached_property
    def of_value(self) -> Mapping[str, str]:
        """The names of the blocks by the values that they compute; those that depend on parameters alone have none."""
        calls = self._elastic.program.calls
        return {name: block.name for block in self.blocks for i in block.calls for name in calls[i].outputs if name}

    @cached_property
    def of_call(self) -> NDArray[np.int64]:
        """The index of the block of each call, (n_calls,); of the first one that reads its value, where it is of parameters."""
        program = self._elastic.program
        found = np.full(len(program.calls), len(self.blocks) - 1, dtype=np.int64)
        for index, block in enumerate(self.blocks):
            found[list(block.calls)] = index
        consumers = program.consumers()
        for index in reversed(range(len(program.calls))):
            if self._of_state(program.calls[index]):
                users = {user for name in program.calls[index].outputs for user in consumers.get(name, ())}
                found[index] = min((found[user] for user in users), default=found[index])
        return found

    def variants(
        self, sizes: Mapping[str, NDArray[np.int64]], dropped: Sequence[frozenset[int]]
    ) -> list[NDArray[np.int64]]:
        """For each block, what decides on its computation in n networks, (n, d).

        Args:
            sizes: (n,) by axis.
            dropped: the branches that each network lacks.
        """
        gone = np.array([[i in own for i in range(len(self._elastic.branches))] for own in dropped], dtype=np.int64)
        found = []
        for block in self.blocks:
            lacking = [gone[:, i] for i in block.branches]
            here = np.array([not self._absent(block, own) for own in dropped], dtype=np.int64)
            # An absent block has one variant: the sizes of its axes do not matter.
            properties = [here, *lacking, *(here * sizes[axis] for axis in block.axes)]
            found.append(np.stack(properties, axis=1))
        return found

    def _absent(self, block: Block, dropped: frozenset[int]) -> bool:
        gone = [self._elastic.branches[i] for i in block.branches if i in dropped]
        return set(block.calls) <= {call for branch in gone for call in (*branch.calls, branch.sum)}


def _free(name: str, taken: Mapping[str, object]) -> str:
    """The name, with a number where it is taken (of a module that is called twice)."""
    n = 2
    while (name if n == 2 else f"{name}:{n - 1}") in taken:
        n += 1
    return name if n == 2 else f"{name}:{n - 1}"
