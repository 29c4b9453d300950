"""Choosing a network of a training without a search: its largest, or of nested ones the largest within limits of cost."""

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
"""More are searched, not listed."""


@dataclass(frozen=True)
class SortedList:
    """A supernet's nested networks by their costs.

    Attributes:
        networks: each with its computed costs by name, fewest multiply-accumulates first.
    """

    run: str
    supernet: Supernet
    networks: tuple[tuple[Architecture, dict[str, int]], ...]

    def within(self, expression: str) -> list[tuple[Architecture, dict[str, int]]]:
        """The networks that keep all limits of an expression such as ``macs<=2e6``, in the list's order.

        Raises:
            SelectionError: malformed, of a figure that is not computed, or no network keeps it (the text names the nearest
                end of the list).
        """
        figures = [Objective.parse(name, []) for name in sorted(EXACT_METRICS)]
        limits = parse_terms(expression, [], figures)
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
            raise SelectionError(f"no network of run {self.run!r} keeps {expression.strip()!r}; they have {ends}")
        return kept

    def to_json(self, expression: str) -> dict[str, Any]:
        """What `nas show --select --json` prints of a training."""
        kept = self.within(expression)
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


def sorted_list(run: StoredRun) -> SortedList:
    """The nested networks of a trained run, from its checkpoint.

    Raises:
        SelectionError: they are not nested, or the training is not finished.
        CheckpointError: the checkpoint is damaged.
    """
    supernet = _trained(run)
    family = supernet.family
    if not isinstance(family, NestedFamily) or family.space.size > MAX_NETWORKS:
        raise SelectionError(
            f"run {run.id!r} is a training of {family.space.size:.3g} networks, none of them measured: search it with "
            f"supernet: {{from: {run.id}}}, then select; without a search, nested networks alone can be chosen from "
            "(supernet.nested: true)"
        )
    rows = costs_of(supernet, family.space.enumerate())
    return SortedList(run.id, supernet, tuple(sorted(rows, key=lambda row: (row[1]["macs"], row[1]["parameters"]))))


def largest(run: StoredRun) -> tuple[Architecture, dict[str, int]]:
    """The largest network of a trained run, with its computed costs by name.

    Raises:
        SelectionError: the training is not finished.
        CheckpointError: the checkpoint is damaged.
    """
    supernet = _trained(run)
    (found,) = costs_of(supernet, [supernet.space.largest])
    return found


def _trained(run: StoredRun) -> Supernet:
    unfinished = f"run {run.id!r} is not trained to its end; wait for it, or go on with: nas resume {run.id}"
    if not has_checkpoint(run.folder.checkpoint):
        raise SelectionError(unfinished)
    checkpoint = load_checkpoint(run.folder.checkpoint)
    if not checkpoint.finished:
        raise SelectionError(unfinished)
    return checkpoint.supernet


def costs_of(supernet: Supernet, networks: Sequence[Architecture]) -> list[tuple[Architecture, dict[str, int]]]:
    """Networks, each with its computed costs by name, in fp32."""
    table = supernet.costs(networks)
    found = {name: getattr(table, name).sum(axis=1).tolist() for name in sorted(EXACT_METRICS) if hasattr(table, name)}
    return [(network, {name: values[i] for name, values in found.items()}) for i, network in enumerate(networks)]
