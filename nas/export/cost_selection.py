"""Selects a network of a training by computed costs, without a search: the largest, or the largest within limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nas.analysis.selection import parse_terms
from nas.errors import SelectionError
from nas.problem.objectives import EXACT_METRICS, Objective
from nas.store.stored_run import StoredRun
from supernets.base import Supernet
from supernets.checkpoint import has_checkpoint, load_checkpoint
from supernets.families.nested import NestedFamily
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
        metrics = [Objective.parse(name, []) for name in sorted(EXACT_METRICS)]
        limits = parse_terms(expression, [], metrics)
        kept = [
            (network, costs)
            for network, costs in self.networks
            if all(limit.allows(costs[limit.objective.name]) for limit in limits)
        ]
        if not kept:
            ends = " to ".join(
                ", ".join(f"{name} {value:,}" for name, value in costs.items())
                for _, costs in (self.networks[0], self.networks[-1])
            )
            raise SelectionError(
                f"no network of run {self.run!r} satisfies {expression.strip()!r}; their costs range from {ends}",
                code="selection.nothing-satisfies",
            )
        return kept

    def to_json(self, expression: str) -> dict[str, Any]:
        """What `nas show --select --json` prints of a training."""
        kept = self.satisfying(expression)
        rows = [
            {
                "key": network.key,
                "architecture": self.supernet.space.values(network),
                "values": costs,
                "source": "computed",
            }
            for network, costs in kept
        ]
        return {"run": self.run, "kind": "training", "select": expression, "best": rows[-1], "within": rows}


def networks_by_cost(run: StoredRun) -> NetworksByCost:
    """The nested networks of a trained run, from its checkpoint.

    Raises:
        SelectionError: they are not nested, or the training is not finished.
        CheckpointError: the checkpoint is damaged.
    """
    supernet = _supernet(run)
    family = supernet.family
    if not isinstance(family, NestedFamily) or family.space.size > MAX_NETWORKS:
        raise SelectionError(
            f"run {run.id!r} is a training of {family.space.size:.3g} networks, none of them measured: search it with "
            f"supernet: {{from: {run.id}}}, then select; without a search, only nested networks can be selected "
            "(supernet.nested: true)",
            code="selection.not-measured",
        )
    rows = costs_of(supernet, family.space.enumerate())
    return NetworksByCost(run.id, supernet, tuple(sorted(rows, key=lambda row: (row[1]["macs"], row[1]["parameters"]))))


def largest_network(run: StoredRun) -> tuple[Architecture, dict[str, int]]:
    """The largest network of a trained run, with its computed costs by name.

    Raises:
        SelectionError: the training is not finished.
        CheckpointError: the checkpoint is damaged.
    """
    supernet = _supernet(run)
    (found,) = costs_of(supernet, [supernet.space.largest])
    return found


def _supernet(run: StoredRun) -> Supernet:
    if has_checkpoint(run.folder.checkpoint):
        checkpoint = load_checkpoint(run.folder.checkpoint)
        if checkpoint.finished:
            return checkpoint.supernet
    raise SelectionError(
        f"run {run.id!r} is not fully trained; wait for it, or continue it with `nas resume {run.id}`",
        code="checkpoint.unfinished",
    )


def costs_of(supernet: Supernet, networks: Sequence[Architecture]) -> list[tuple[Architecture, dict[str, int]]]:
    """Each network with its computed costs by name, in fp32."""
    table = supernet.costs(networks)
    found = {name: getattr(table, name).sum(axis=1).tolist() for name in sorted(EXACT_METRICS) if hasattr(table, name)}
    return [(network, {name: values[i] for name, values in found.items()}) for i, network in enumerate(networks)]
