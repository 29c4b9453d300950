"""Exact costs of captured networks, computed from the sizes of their axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from supernets.axes import axes_in, size_of
from supernets.capture.adoption import Adopted
from supernets.capture.network import stated_names
from supernets.capture.program import BATCH, state_values
from supernets.cost import BYTES_PER_ACTIVATION, CostTable, Counts, lies_in
from supernets.space import Architecture


class ProgramCosts:
    """Costs of every subnet of a captured network for one example, by block.

    Args:
        blocks: paths of modules; what lies in none of them belongs to the last one.
        of_call: the index of each call's block, where blocks are runs of calls and no modules.
    """

    def __init__(self, adopted: Adopted, blocks: Sequence[str], of_call: Sequence[int] | None = None) -> None:
        self.blocks = tuple(blocks)
        self._adopted = adopted
        self._consumers = adopted.program.consumers()
        program = adopted.program
        if of_call is None:
            self._of_call = [self._block(call.module) for call in program.calls]
            self._of_tensor = {name: self._block(name.rpartition(".")[0]) for name in program.tensors}
        else:
            self._of_call = list(of_call)
            self._of_tensor = {name: min(self._of_call[i] for i in self._consumers[name]) for name in program.trainable}

    def _block(self, path: str) -> int:
        found = [i for i, block in enumerate(self.blocks) if lies_in(path, [block])]
        return found[-1] if found else len(self.blocks) - 1

    def costs(
        self, architectures: Sequence[Architecture], sizes: Mapping[str, Counts], dropped: Sequence[frozenset[str]]
    ) -> CostTable:
        """Costs of n networks, as of `supernets.cost.CostModel`."""
        n = len(architectures)
        parameters = np.zeros((n, len(self.blocks)), dtype=np.int64)
        macs, activations = np.zeros_like(parameters), np.zeros_like(parameters)
        present = self._present(n, dropped)
        full = {**sizes, BATCH: np.ones(n, dtype=np.int64)}
        full |= {name: np.full(n, size, dtype=np.int64) for name, size in self._adopted.program.sizes.items()}
        for name in self._adopted.program.trainable:
            used = present[:, self._consumers[name]].max(axis=1)
            parameters[:, self._of_tensor[name]] += used * size_of(self._adopted.dims[name], full)
        for work in self._adopted.work:
            call = self._adopted.program.calls[work.call]
            block, used = self._of_call[work.call], present[:, work.call]
            macs[:, block] += used * size_of(work.products, full)
            if call.name in (
                "linear",
                "addmm",
                "nas_one.mixed_experts",
                "nas_one.cross_memory",
            ) or call.name.startswith("conv"):
                activations[:, block] += used * size_of(work.outputs, full) * BYTES_PER_ACTIVATION
        return CostTable(self.blocks, parameters, macs, activations)

    def _present(self, n: int, dropped: Sequence[frozenset[str]]) -> Counts:
        """Whether each network has each call, (n, n_calls) of 0 and 1."""
        program = self._adopted.program
        present, layers = np.ones((n, len(program.calls)), dtype=np.int64), stated_names(program)[1]
        for row, names in enumerate(dropped):
            for i, branch in enumerate(self._adopted.branches):
                if f"{layers}.{i}" in names:
                    present[row, list(branch.calls)] = 0
        state = state_values(program)
        # Calls on parameters alone are there for those that read them.
        for index in reversed(range(len(program.calls))):
            call = program.calls[index]
            if call.outputs[0] in state:
                users = sorted({user for name in call.outputs for user in self._consumers.get(name, ())})
                present[:, index] = present[:, users].max(axis=1) if users else 1
        return present


def elastic_share(adopted: Adopted) -> float:
    """The share of multiply-accumulates in calls that an axis or a branch can make smaller."""
    sizes: dict[str, int] = {**adopted.full_sizes, BATCH: 1}
    droppable = {call for branch in adopted.branches for call in branch.calls}
    total = elastic = 0
    for work in adopted.work:
        macs = int(size_of(work.products, sizes))
        total += macs
        if work.call in droppable or any(axes_in(dim) - {BATCH} for dim in work.products):
            elastic += macs
    return elastic / total if total else 0.0
