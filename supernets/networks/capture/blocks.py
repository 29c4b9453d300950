"""Blocks of programs: their exact costs and their variants, and the division of captured networks into blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from supernets.networks.capture.branches import Branch, common_path, layer_of
from supernets.networks.capture.elastic_program import ElasticProgram
from supernets.networks.capture.program import BATCH, Call, state_sources
from supernets.space.axes import axes_in, size_of
from supernets.space.cost import BYTES_PER_ACTIVATION, CostTable, Counts

_WHOLE = "network"
_NORMS = frozenset(("layer_norm", "group_norm", "instance_norm", "rms_norm"))
"""Norms that are not folded into the layer before them."""


class ProgramBlocks:
    """The blocks of every subnet of a program: their costs for one example, and what decides on their computation.

    Args:
        branches: returns the branches that a network without these modules lacks.
        blocks: names.
        of_call: the index of each call's block; -1 for calls in none, which have no work.
        of_tensor: the index of each parameter's block.
        lengths: the sizes that only inputs decide, by name.
    """

    def __init__(
        self,
        elastic: ElasticProgram,
        branches: Callable[[frozenset[str]], Sequence[Branch]],
        blocks: Sequence[str],
        of_call: Sequence[int],
        of_tensor: Mapping[str, int],
        lengths: Mapping[str, int],
    ) -> None:
        self.blocks = tuple(blocks)
        self._elastic, self._branches, self._of_call, self._of_tensor = elastic, branches, of_call, of_tensor
        self._lengths = {**elastic.lengths, **lengths, BATCH: 1}
        self._consumers = elastic.program.consumers()
        self._number_by_part = dict[bytes, int]()

    def costs(self, sizes: Mapping[str, Counts], dropped: Sequence[frozenset[str]]) -> CostTable:
        """Costs of n networks.

        Args:
            sizes: (n,) by axis.
            dropped: the modules that each network lacks.
        """
        n, elastic = len(dropped), self._elastic
        parameters = np.zeros((n, len(self.blocks)), dtype=np.int64)
        macs, activations = np.zeros_like(parameters), np.zeros_like(parameters)
        distinct, rows = self._present(dropped)
        present = distinct[rows]
        full = {**sizes, **{name: np.full(n, length, dtype=np.int64) for name, length in self._lengths.items()}}
        for name in elastic.program.trainable:
            used = present[:, self._consumers[name]].max(axis=1)
            parameters[:, self._of_tensor[name]] += used * size_of(elastic.dims[name], full)
        for work in elastic.work:
            block, used = self._of_call[work.call], present[:, work.call]
            macs[:, block] += used * size_of(work.products, full)
            if work.stored:
                activations[:, block] += used * size_of(work.outputs, full) * BYTES_PER_ACTIVATION
        return CostTable(self.blocks, parameters, macs, activations)

    def variants(self, sizes: Mapping[str, Counts], dropped: Sequence[frozenset[str]]) -> list[Counts]:
        """Returns the properties that decide each block's computation in n networks, one array (n, d) for each block.

        Args:
            sizes: (n,) by axis.
            dropped: the modules that each network lacks.
        """
        present, rows = self._present(dropped)
        parts = [present[:, calls] for calls in self._calls_by_block]
        *numbers, outside = (self._part_numbers(part)[rows] for part in parts)
        is_present = np.stack([part.any(axis=1) for part in parts[:-1]], axis=1)[rows]
        # Operations in no block belong to the block before them, unless they read others, too.
        following = _following(is_present) if self._calls_by_block[-1] else np.zeros_like(is_present, dtype=np.int64)
        variants = []
        for block, axes in enumerate(self._axes_by_block):
            properties = [following[:, block], outside, numbers[block], *(sizes[axis] for axis in axes)]
            # An absent block has one variant: the sizes of its axes do not matter.
            presence = is_present[:, block]
            variants.append(np.stack([presence, *(values * presence for values in properties)], axis=1))
        return variants

    @cached_property
    def _calls_by_block(self) -> list[list[int]]:
        """The calls of each block, and of none."""
        return [
            [call for call, of_call in enumerate(self._of_call) if of_call == block]
            for block in (*range(len(self.blocks)), -1)
        ]

    @cached_property
    def _axes_by_block(self) -> list[list[str]]:
        """The axes on which each block's computation depends."""
        elastic, sources = self._elastic, state_sources(self._elastic.program)
        axes_by_block = []
        for calls in self._calls_by_block[:-1]:
            values = {name for i in calls for name in (*elastic.program.calls[i].outputs, *elastic.reads[i]) if name}
            values.update(source for name in tuple(values) for source in sources.get(name, ()))
            axes = {axis for name in values for dim in elastic.shapes[name] for axis in axes_in(dim)}
            axes_by_block.append([axis for axis in elastic.axes if axis in axes])
        return axes_by_block

    def _part_numbers(self, present: Counts) -> Counts:
        """A number for the calls that each network has, (n, n_calls) -> (n,): equal numbers for equal ones, also later."""
        numbers = self._number_by_part
        return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in present], dtype=np.int64)

    def _present(self, dropped: Sequence[frozenset[str]]) -> tuple[Counts, NDArray[np.intp]]:
        """Returns 1 for each call that networks without a set of modules have, else 0, (m, n_calls), and each network's set."""
        program = self._elastic.program
        distinct = {names: row for row, names in enumerate(dict.fromkeys(dropped))}  # of many networks, few
        present = np.ones((len(distinct), len(program.calls)), dtype=np.int64)
        for names, row in distinct.items():
            for branch in self._branches(names):
                present[row, [*branch.calls, branch.sum]] = 0
        state = program.state_values
        # Calls on parameters alone are there for those that read them.
        for index in reversed(range(len(program.calls))):
            call = program.calls[index]
            if call.outputs[0] in state:
                users = sorted({user for name in call.outputs for user in self._consumers.get(name, ())})
                present[:, index] = present[:, users].max(axis=1) if users else 1
        return present, np.array([distinct[names] for names in dropped], dtype=np.intp)


def _following(present: NDArray[np.bool_]) -> Counts:
    """The index of the next present block after each, (n, n_blocks); n_blocks after the last."""
    n_blocks = present.shape[1]
    positions = np.pad(
        np.where(present, np.arange(n_blocks), n_blocks)[:, 1:], ((0, 0), (0, 1)), constant_values=n_blocks
    )
    return np.minimum.accumulate(positions[:, ::-1], axis=1)[:, ::-1]


def elastic_share(program: ElasticProgram) -> float:
    """The share of multiply-accumulates in calls that an axis or a branch can make smaller."""
    sizes: dict[str, int] = {**program.full_sizes, BATCH: 1}
    droppable = {call for branch in program.branches for call in branch.calls}
    total = elastic = 0
    for work in program.work:
        macs = int(size_of(work.products, sizes))
        total += macs
        if work.call in droppable or any(axes_in(dim) - {BATCH} for dim in work.products):
            elastic += macs
    return elastic / total if total else 0.0


class Division:
    """The blocks of a captured network, in order; one where no value alone connects a part of it with the rest.

    A block has at least one product of matrices or convolution. Other calls after it belong to it, but norms that are not
    folded belong to the next one. Calls on parameters alone belong to the blocks that read them.

    Attributes:
        names: Name of each block: of the module that has its parameters, or of the first layer.
    """

    def __init__(self, elastic: ElasticProgram) -> None:
        self._elastic = elastic
        self._state = elastic.program.state_values
        self._worked = frozenset(work.call for work in elastic.work)
        self._closure = state_sources(elastic.program)
        self._calls_by_block = self._join_runs(list(self._runs()))
        names: dict[str, None] = {}
        for run in self._calls_by_block:
            names[_unique_name(self._name(run), names)] = None
        self.names = tuple(names)

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

    def _parameters(self, run: Sequence[int]) -> list[str]:
        """The parameters that a run reads directly or through values that depend on tensors alone."""
        program = self._elastic.program
        sources = [source for i in run for name in program.calls[i].reads() for source in self._closure.get(name, ())]
        return [name for name in sources if name in program.trainable]

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

    def block_by_call(self) -> list[int]:
        """The index of each call's block; of a call on parameters alone, that of the first block that reads its value."""
        program, last = self._elastic.program, len(self.names) - 1
        indices = {call: index for index, run in enumerate(self._calls_by_block) for call in run}
        consumers = program.consumers()
        for call in reversed(range(len(program.calls))):
            if self._is_state(program.calls[call]):
                users = {user for name in program.calls[call].outputs for user in consumers.get(name, ())}
                indices[call] = min((indices[user] for user in users), default=last)
        return [indices[call] for call in range(len(program.calls))]


def _unique_name(name: str, used_names: Mapping[str, object]) -> str:
    """The name, with a number where another block has it (as of a module that is called twice)."""
    n = 2
    while (name if n == 2 else f"{name}:{n - 1}") in used_names:
        n += 1
    return name if n == 2 else f"{name}:{n - 1}"
