"""Blocks of a captured program: runs of calls between values through which alone the network continues."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from supernets.networks.capture.branches import common_path, layer_of
from supernets.networks.capture.elastic_program import ElasticProgram
from supernets.networks.capture.program import BATCH, Call, state_sources, state_values
from supernets.space.axes import axes_in

_WHOLE = "network"
_NORMS = frozenset(("layer_norm", "group_norm", "instance_norm", "rms_norm"))
"""Norms that are not folded into the layer before them."""


class Division:
    """The blocks of a captured network, in order; one where no value alone connects a part of it with the rest.

    A block has at least one product of matrices or convolution. Other calls after it belong to it, but norms that are not
    folded belong to the next one. Calls on parameters alone belong to the blocks that read them.

    Attributes:
        names: Name of each block: of the module that has its parameters, or of the first layer.
    """

    def __init__(self, elastic: ElasticProgram) -> None:
        self._elastic = elastic
        self._state = state_values(elastic.program)
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
