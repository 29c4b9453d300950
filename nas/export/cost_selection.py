"""Selects a network of a training by computed costs, without a search: the largest, or the largest within limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nas.analysis.network_selection import parse_cost_limits
from nas.errors import SelectionError
from nas.problem.objectives import EXACT_METRICS
from nas.store.stored_run import StoredRun
from supernets.base import Supernet
from supernets.checkpoint import has_checkpoint, load_checkpoint
from supernets.families.nested_networks import NestedFamily
from supernets.space import Architecture

MAX_NETWORKS = 10_000
"""Largest space that is enumerated; a larger one must be searched."""


@dataclass(frozen=True)
class NetworksByCost:
    """A supernet's nested networks in the order of their costs.

    Attributes:
        networks: each with its computed costs by name, in ascending order of multiply-accumulates.
    """

    run: str
    supernet: Supernet
    networks: tuple[tuple[Architecture, dict[str, int]], ...]

    def satisfying(self, expression: str) -> list[tuple[Architecture, dict[str, int]]]:
        """The networks that satisfy all limits of an expression such as ``macs<=2e6``, smallest first.

        Raises:
            SelectionError: it is malformed, its metric is not a computed cost, or no network satisfies it.
        """
        limits = parse_cost_limits(expression)
        kept = [row for row in self.networks if all(limit.allows(row[1][limit.objective.name]) for limit in limits)]
        if not kept:
            ends = (self.networks[0][1], self.networks[-1][1])
            costs = " to ".join(", ".join(f"{name} {value:,}" for name, value in end.items()) for end in ends)
            message = f"no network of run {self.run!r} satisfies {expression.strip()!r}; their costs range from {costs}"
            raise SelectionError(message, code="selection.nothing-satisfies")
        return kept

    def to_json(self, expression: str) -> dict[str, Any]:
        """What `nas show --select --json` prints of a training."""
        values = self.supernet.space.values
        rows = [
            {"key": network.key, "architecture": values(network), "values": costs, "source": "computed"}
            for network, costs in self.satisfying(expression)
        ]
        return {"run": self.run, "kind": "training", "select": expression, "best": rows[-1], "within": rows}


def networks_by_cost(run: StoredRun) -> NetworksByCost:
    """The nested networks of a trained run, from its checkpoint.

    Raises:
        SelectionError: they are not nested, or the training is not finished.
        CheckpointError: the checkpoint is damaged.
    """
    supernet = _supernet(run)
    if not isinstance(supernet.family, NestedFamily) or supernet.space.size > MAX_NETWORKS:
        raise SelectionError(
            f"run {run.id!r} is a training of {supernet.space.size:.3g} networks, none of them measured: search it with "
            f"supernet: {{from: {run.id}}}, then select; without a search, only nested networks can be selected "
            "(supernet.nested: true)",
            code="selection.not-measured",
        )
    rows = costs_of(supernet, supernet.space.enumerate())
    return NetworksByCost(run.id, supernet, tuple(sorted(rows, key=lambda row: (row[1]["macs"], row[1]["parameters"]))))


def largest_network(run: StoredRun) -> tuple[Architecture, dict[str, int]]:
    """The largest network of a trained run, with its computed costs by name; raises as `networks_by_cost`."""
    supernet = _supernet(run)
    return costs_of(supernet, [supernet.space.largest])[0]


def _supernet(run: StoredRun) -> Supernet:
    if has_checkpoint(run.folder.checkpoint):
        checkpoint = load_checkpoint(run.folder.checkpoint)
        if checkpoint.finished:
            return checkpoint.supernet
    message = f"run {run.id!r} is not fully trained; wait for it, or continue it with `nas resume {run.id}`"
    raise SelectionError(message, code="checkpoint.unfinished")


def costs_of(supernet: Supernet, networks: Sequence[Architecture]) -> list[tuple[Architecture, dict[str, int]]]:
    """Each network with its computed costs by name, in fp32."""
    table = supernet.costs(networks)
    found = {name: getattr(table, name).sum(axis=1).tolist() for name in sorted(EXACT_METRICS) if hasattr(table, name)}
    return [(network, {name: values[i] for name, values in found.items()}) for i, network in enumerate(networks)]
