"""Exact costs of the networks of a program, computed from the sizes of their axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from supernets.networks.capture.branches import Branch
from supernets.networks.capture.elastic_program import ElasticProgram
from supernets.networks.capture.program import BATCH, state_values
from supernets.space.axes import axes_in, size_of
from supernets.space.cost import BYTES_PER_ACTIVATION, CostTable, Counts


class ProgramCosts:
    """Costs of every subnet of a program for one example, by block.

    Args:
        branches: returns the branches that a network without these modules lacks.
        blocks: names.
        of_call: the index of each call's block; -1 for calls without work.
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

    def costs(self, sizes: Mapping[str, Counts], dropped: Sequence[frozenset[str]]) -> CostTable:
        """Costs of n networks.

        Args:
            sizes: (n,) by axis.
            dropped: the modules that each network lacks.
        """
        n, elastic = len(dropped), self._elastic
        parameters = np.zeros((n, len(self.blocks)), dtype=np.int64)
        macs, activations = np.zeros_like(parameters), np.zeros_like(parameters)
        present = self._present(dropped)
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

    def _present(self, dropped: Sequence[frozenset[str]]) -> Counts:
        """Returns 1 for each call that a network has, and 0 for the others, (n, n_calls)."""
        program = self._elastic.program
        distinct = {names: row for row, names in enumerate(dict.fromkeys(dropped))}  # of many networks, few
        present = np.ones((len(distinct), len(program.calls)), dtype=np.int64)
        for names, row in distinct.items():
            for branch in self._branches(names):
                present[row, list(branch.calls)] = 0
        state = state_values(program)
        # Calls on parameters alone are there for those that read them.
        for index in reversed(range(len(program.calls))):
            call = program.calls[index]
            if call.outputs[0] in state:
                users = sorted({user for name in call.outputs for user in self._consumers.get(name, ())})
                present[:, index] = present[:, users].max(axis=1) if users else 1
        return present[[distinct[names] for names in dropped]]


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
