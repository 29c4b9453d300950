"""Selects a network of a training without a search: the largest, or the largest within limits on costs and latencies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas.engine.store.stored_run import StoredRun
from nas.errors import Remedy, SelectionError
from nas.results.analysis.network_selection import parse_cost_limits
from nas.results.export.nested_latencies import LATENCY, measured_latencies, timed_profiles
from nas.search.problem.objectives import EXACT_METRICS
from supernets.families.nested_networks import NestedFamily
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.training.checkpoint import has_checkpoint, load_checkpoint

MAX_NETWORKS = 10_000
"""Largest space that is enumerated; a larger one must be searched."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A network with its computed costs and, where a limit asks for them, its latencies with errors, by name."""

    network: Architecture
    values: dict[str, float]
    errors: dict[str, float]


@dataclass(frozen=True)
class NetworksByCost:
    """A supernet's nested networks in the order of their costs.

    Attributes:
        networks: each with its computed costs by name, in ascending order of multiply-accumulates.
        note: called before latencies are measured.
    """

    stored: StoredRun
    supernet: Supernet
    networks: tuple[tuple[Architecture, Mapping[str, float]], ...]
    note: Callable[[str], None]

    @property
    def run(self) -> str:
        """The run's id."""
        return self.stored.id

    def satisfying(self, expression: str) -> list[tuple[Architecture, dict[str, float]]]:
        """The networks that satisfy all limits of an expression such as ``macs<=2e6``, smallest first, with their values.

        A limit on a latency measures all networks on its profile the first time, see `measured_latencies`.

        Raises:
            SelectionError: The expression is malformed, its metric is no computed cost or latency, or no network satisfies it.
            EvaluationError: a latency cannot be measured.
        """
        return [(row.network, row.values) for row in self._rows(expression)]

    def to_json(self, expression: str) -> dict[str, Any]:
        """The output of `nas show --select --json` for a training."""
        values = self.supernet.space.values
        rows: list[dict[str, Any]] = [
            {"key": row.network.key, "architecture": values(row.network), "values": row.values}
            | ({"source": "measured", "errors": row.errors} if row.errors else {"source": "computed"})
            for row in self._rows(expression)
        ]
        return {"run": self.run, "kind": "training", "select": expression, "best": rows[-1], "within": rows}

    def _rows(self, expression: str) -> list[_Row]:
        limits = parse_cost_limits(expression, timed_profiles(self.stored) if LATENCY in expression else ())
        rows = [_Row(network, dict(costs), {}) for network, costs in self.networks]
        for name, profile in {limit.objective.name: limit.objective.profile for limit in limits}.items():
            if profile is not None:
                latencies = measured_latencies(self.stored, [row.network for row in rows], profile, note=self.note)
                for row in rows:
                    row.values[name], row.errors[name] = latencies[row.network]
        satisfying = [row for row in rows if all(limit.allows(row.values[limit.objective.name]) for limit in limits)]
        if not satisfying:
            ends = (rows[0].values, rows[-1].values)
            shown = " to ".join(", ".join(f"{name} {value_text(value)}" for name, value in end.items()) for end in ends)
            message = f"no network of run {self.run!r} satisfies {expression.strip()!r}; their costs range from {shown}"
            raise SelectionError(message, code="selection.nothing-satisfies")
        return satisfying


def value_text(value: float) -> str:
    """``1,234,567`` for a computed cost, ``0.1234`` for a latency."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def networks_by_cost(run: StoredRun, *, note: Callable[[str], None] = lambda text: None) -> NetworksByCost:
    """The nested networks of a trained run, from its checkpoint.

    Args:
        note: called before latencies are measured, which takes a while.

    Raises:
        SelectionError: The networks are not nested, or the training is not finished.
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
    ordered = sorted(rows, key=lambda row: (row[1]["macs"], row[1]["parameters"]))
    return NetworksByCost(run, supernet, tuple(ordered), note)


def largest_network(run: StoredRun) -> tuple[Architecture, dict[str, float]]:
    """The largest network of a trained run, with its computed costs by name; raises as `networks_by_cost`."""
    supernet = _supernet(run)
    return costs_of(supernet, [supernet.space.largest])[0]


def _supernet(run: StoredRun) -> Supernet:
    if has_checkpoint(run.folder.checkpoint):
        checkpoint = load_checkpoint(run.folder.checkpoint)
        if checkpoint.finished:
            return checkpoint.supernet
    message = f"run {run.id!r} is not fully trained; wait for it, or resume it"
    raise SelectionError(message, code="checkpoint.unfinished", remedy=Remedy("resume", run.id))


def costs_of(supernet: Supernet, networks: Sequence[Architecture]) -> list[tuple[Architecture, dict[str, float]]]:
    """Each network with its computed costs by name, in fp32."""
    table = supernet.costs(networks)
    costs_by_name = {
        name: getattr(table, name).sum(axis=1).tolist() for name in sorted(EXACT_METRICS) if hasattr(table, name)
    }
    return [
        (network, {name: values[i] for name, values in costs_by_name.items()}) for i, network in enumerate(networks)
    ]
